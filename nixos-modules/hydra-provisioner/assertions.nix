# Checks that types cannot express. The program validates all of `settings` again when the system is built.
{ config, lib, ... }:

let
  cfg = config.services.hydra-provisioner;
  inherit (cfg) settings;
  place = "services.hydra-provisioner";

  # Whether this machine's sshd listens on a port of every address, including those of provider.qemu's machines.
  sshd = config.services.openssh;
  takesEverywhere =
    port: (sshd.enable or false) && lib.elem port sshd.ports && sshd.listenAddresses == [ ];

  providersOf = type: lib.attrNames (lib.filterAttrs (_: given: given != null) type.provider);

  ofType =
    name: type:
    let
      at = "${place}.settings.systemTypes.\"${name}\"";
      given = if type.provider == null then [ ] else providersOf type;
      is = kind: lib.elem kind given;
      nobody =
        kind:
        "${at}.provider.${kind} permits no login. Set authorizedKeys to the public key of sshKey (and of sshKeyFile)";
      # The program adds the .pub of sshKey, and each creation fails if it cannot read that file and has no other key.
      readable = type.sshKey == null || !lib.hasPrefix "/var/lib/hydra/queue-runner/" type.sshKey;
      unreadable =
        kind: cloudKey:
        "${at}.provider.${kind} has ${cloudKey}, but no authorizedKeys, and the service cannot read the .pub of sshKey in /var/lib/hydra/queue-runner: each creation would fail. Set authorizedKeys to that public key (and to that of sshKeyFile).";
      inherit (type.provider)
        ec2
        hcloud
        nixops
        qemu
        ;
      expr = if nixops.expr == null then type.nixopsExpr else nixops.expr;
    in
    [
      {
        assertion = type.minMachines <= type.maxMachines;
        message = "${at}: minMachines ${toString type.minMachines} is above maxMachines ${toString type.maxMachines}. Lower one or raise the other.";
      }
      {
        assertion = type.provider == null -> type.nixopsExpr != null;
        message = "${at} has no provider. Set provider.command, provider.ec2, provider.hcloud, provider.nixops, provider.qemu or nixopsExpr.";
      }
      {
        assertion = type.provider != null -> builtins.length given == 1;
        message =
          "${at}.provider must have exactly one provider, has "
          + (if given == [ ] then "none" else lib.concatStringsSep " and " given)
          + ".";
      }
      {
        assertion = type.nixopsExpr != null && type.provider != null -> given == [ "nixops" ];
        message = "${at}.nixopsExpr is for the provider nixops, but another one is set. Remove one of them.";
      }
      {
        assertion = is "nixops" -> (expr == null) != (nixops.network == null);
        message = "${at}.provider.nixops must have either expr (NixOps 1: the deployment file) or network (NixOps 2: the folder of nixops.nix).";
      }
      {
        assertion =
          is "ec2"
          ->
            lib.count (image: image != null) [
              ec2.image
              ec2.imageParameter
              ec2.imageFilter
            ] == 1;
        message = "${at}.provider.ec2 must have exactly one of image (an id), imageParameter (an SSM parameter's name) and imageFilter (the newest AMI of an owner with a matching name).";
      }
      {
        assertion = is "ec2" -> (ec2.instanceTypes == [ ]) != (ec2.instanceRequirements == null);
        message = "${at}.provider.ec2 must have either instanceTypes or instanceRequirements.";
      }
      {
        assertion = is "ec2" -> ec2.subnets == [ ] || ec2.zones == [ ];
        message = "${at}.provider.ec2 has both subnets and zones. Remove one: each subnet is in a zone.";
      }
      {
        assertion = is "ec2" -> ec2.authorizedKeys != [ ] || ec2.keyName != null;
        message = nobody "ec2" + ".";
      }
      {
        assertion = is "ec2" && ec2.keyName != null -> ec2.authorizedKeys != [ ] || readable;
        message = unreadable "ec2" "keyName";
      }
      {
        assertion = is "hcloud" -> (hcloud.image == null) != (hcloud.imageSelector == null);
        message = "${at}.provider.hcloud must have either image (a name or id) or imageSelector (the newest snapshot with these labels).";
      }
      {
        assertion = is "hcloud" -> hcloud.authorizedKeys != [ ] || hcloud.sshKeys != [ ];
        message = nobody "hcloud" + ".";
      }
      {
        assertion = is "hcloud" && hcloud.sshKeys != [ ] -> hcloud.authorizedKeys != [ ] || readable;
        message = unreadable "hcloud" "sshKeys";
      }
      {
        assertion = is "qemu" -> !takesEverywhere qemu.sshPort;
        message = "${at}.provider.qemu: this machine's sshd listens on port ${toString qemu.sshPort} of all addresses, but each build machine needs that port of its own address in 127.91.0.0/16. Set services.openssh.listenAddresses, or provider.qemu.sshPort (docs/qemu.md).";
      }
      {
        assertion = is "qemu" -> qemu.authorizedKeys != [ ];
        message = nobody "qemu" + ": the service cannot read it from /var/lib/hydra/queue-runner.";
      }
    ];
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.configFile != null -> settings.systemTypes == { };
        message = "${place} has both settings.systemTypes and configFile. Remove one: the program reads one configuration.";
      }
      {
        assertion = cfg.configFile == null -> settings.systemTypes != { };
        message = "${place} has no machine types. Set settings.systemTypes (for example settings.systemTypes.x86_64-linux.provider.command.program), or configFile.";
      }
      {
        assertion = settings.queue != null -> settings.statusCommand == null;
        message = "${place}.settings has both queue (the REST queue runner) and statusCommand (a classic one). Remove one.";
      }
      {
        assertion =
          settings.queue == null -> settings.drainCommand == null && settings.resumeCommand == null;
        message = "${place}.settings.drainCommand and resumeCommand are for builders of the REST queue runner. Set queue.url or remove them.";
      }
      {
        assertion = settings.machinesFile != null -> settings.updateCommand == null;
        message = "${place}.settings has both machinesFile and updateCommand. Remove one.";
      }
      {
        assertion = builtins.match "/var/lib/[^/]+(/[^/]+)*" settings.stateDir != null;
        message = "${place}.settings.stateDir is ${settings.stateDir}, which systemd cannot create for the service. Choose a folder below /var/lib.";
      }
      {
        assertion = cfg.interval != null -> !cfg.watch;
        message = "${place}.interval is for the timer (watch = false). With watch, set settings.pollInterval instead: the time between queue status requests.";
      }
      {
        assertion = cfg.listenStreams != [ ] -> cfg.watch;
        message = "${place}.listenStreams needs watch: a process that does not stay answers nobody. Remove watch = false.";
      }
      {
        assertion = cfg.metricsAddress != null -> cfg.watch;
        message = "${place}.metricsAddress needs watch: with the timer, no process stays to answer. Remove watch = false.";
      }
      {
        assertion = cfg.credentials ? ssh-key -> cfg.sshKeyFile == null;
        message = "${place}.credentials.ssh-key is also set by sshKeyFile. Remove one.";
      }
    ]
    ++ lib.concatLists (lib.mapAttrsToList ofType settings.systemTypes);
  };
}
