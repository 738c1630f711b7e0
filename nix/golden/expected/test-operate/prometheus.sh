cat >/run/prometheus.json <<'END'
{"global":{"scrape_interval":"1s"},"rule_files":["/nix/store/00000000000000000000000000000000-hydra-provisioner/share/hydra-provisioner/alerts.yaml"],"scrape_configs":[{"job_name":"hydra-provisioner","static_configs":[{"targets":["127.0.0.1:9478"]}]}]}
END
exec /nix/store/00000000000000000000000000000000-prometheus/bin/prometheus --config.file=/run/prometheus.json \
  --storage.tsdb.path=/run/prometheus --web.listen-address=127.0.0.1:9090
