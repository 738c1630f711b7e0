# Prometheus and Grafana on the same machine: scrape job, alert rules and dashboard.
{ config, lib, ... }:

let
  inherit (lib) mkEnableOption mkIf;

  cfg = config.services.hydra-provisioner;
  shared = "${cfg.package}/share/hydra-provisioner";
in
{
  options.services.hydra-provisioner = {
    prometheus.enable = mkEnableOption "the scrape job and the alert rules in this machine's `services.prometheus`. Needs `metricsAddress` with an IP address and a port";
    dashboard.enable = mkEnableOption "the dashboard in this machine's `services.grafana`. Its data source must be a Prometheus that scrapes the service";
  };

  config = mkIf cfg.enable {
    services.prometheus = mkIf cfg.prometheus.enable {
      scrapeConfigs = [
        {
          job_name = "hydra-provisioner";
          static_configs = [ { targets = [ cfg.metricsAddress ]; } ];
        }
      ];
      ruleFiles = [ "${shared}/alerts.yaml" ];
    };

    services.grafana.provision = mkIf cfg.dashboard.enable {
      enable = true;
      dashboards.settings.providers = [
        {
          name = "hydra-provisioner";
          # Grafana reads the .json files of a folder.
          options.path = shared;
        }
      ];
    };

    assertions = [
      {
        assertion =
          cfg.prometheus.enable -> cfg.metricsAddress != null && !lib.hasPrefix "unix:" cfg.metricsAddress;
        message = "services.hydra-provisioner.prometheus.enable needs metricsAddress with an IP address and a port, for example \"127.0.0.1:9478\": Prometheus scrapes that address.";
      }
    ];
  };
}
