# Settings for a classic Hydra on the same machine (./hydra.nix).
{
  config,
  lib,
  pkgs,
}:

let
  cfg = config.services.hydra-provisioner;
  inherit (cfg) settings;
  hydra = config.services.hydra;
  here = cfg.enable && hydra.enable && settings.queue == null;

  machinesFile =
    if cfg.configFile != null then "/var/lib/hydra/provisioner/machines" else settings.machinesFile;

  inherit (pkgs.stdenv.hostPlatform) system;
  features = config.nix.settings.system-features or [ ];
  localhost = pkgs.writeText "localhost-machines" (
    lib.concatStringsSep " " [
      "localhost"
      (if system == "x86_64-linux" then "x86_64-linux,i686-linux" else system)
      "-"
      (toString cfg.localJobs)
      "1"
      (if features == [ ] then "-" else lib.concatStringsSep "," features)
      "-"
      "-\n"
    ]
  );
in
{
  services.hydra-provisioner.maxUnsupportedTime = lib.mkIf here (lib.mkDefault (7 * 24 * 3600));

  services.hydra = lib.mkIf (here && machinesFile != null) {
    # These replace Hydra's default: /etc/nix/machines if it exists, otherwise localhost.
    buildMachinesFiles = [
      machinesFile
    ]
    ++ (
      if config.nix.buildMachines != [ ] then
        [ "/etc/nix/machines" ]
      else
        lib.optional (cfg.localJobs > 0) "${localhost}"
    );
    # With Hydra's default of 0 s, every step without a machine is aborted immediately.
    extraConfig = lib.mkIf (
      cfg.maxUnsupportedTime != null
    ) "max_unsupported_time = ${toString cfg.maxUnsupportedTime}\n";
  };

  # `hydra-queue-runner --status` uses Hydra's database.
  services.postgresql = lib.mkIf (here && hydra.dbi == "dbi:Pg:dbname=hydra;user=hydra;") {
    identMap = "hydra-users ${cfg.user} hydra";
  };
  systemd.services.hydra-provisioner = lib.mkIf here {
    after = [ "hydra-queue-runner.service" ];
    path = [ hydra.package ];
    environment = {
      HYDRA_DBI = hydra.dbi;
      HYDRA_DATA = "/var/lib/hydra";
      HYDRA_CONFIG = "/var/lib/hydra/hydra.conf";
    };
    # Access to hydra.conf and /var/lib/hydra/provisioner.
    serviceConfig.SupplementaryGroups = [ "hydra" ];
  };
}
