# The part of nixpkgs' services.prometheus that a test needs: its configuration and its unit.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  given = config.services.prometheus;
  # YAML is a superset of JSON.
  file = builtins.toJSON {
    global.scrape_interval = given.globalConfig.scrape_interval;
    scrape_configs = given.scrapeConfigs;
    rule_files = given.ruleFiles;
  };
in
{
  systemd.services.prometheus = lib.mkIf (given.enable or false) {
    description = "Prometheus";
    wantedBy = [ "multi-user.target" ];
    script = ''
      cat >/run/prometheus.json <<'END'
      ${file}
      END
      exec ${pkgs.prometheus}/bin/prometheus --config.file=/run/prometheus.json \
        --storage.tsdb.path=/run/prometheus --web.listen-address=127.0.0.1:9090
    '';
  };
}
