# The options of conf.nix below systemTypes.<TYPE>.provider that are clouds.
{ lib }:

let
  inherit (lib) mkOption types;
  quantities = import ./quantities.nix { inherit lib; };
  inherit (quantities) optional;

  # A path literal would copy the secret to the store.
  secretFile = quantities.absolutePath;
  names = types.nonEmptyListOf types.nonEmptyStr;

  list =
    type: description:
    mkOption {
      type = types.listOf type;
      default = [ ];
      inherit description;
    };

  imageFilter.options = {
    owner = mkOption {
      type = types.nonEmptyStr;
      example = "427812963091";
      description = "An account's number, or an alias such as `amazon`.";
    };
    name = mkOption {
      type = types.nonEmptyStr;
      example = "nixos/25.11*";
      description = "A name with `*` for anything.";
    };
    architecture = optional (types.enum [
      "x86_64"
      "arm64"
    ]) "The architecture.";
  };
  rootVolume.options = {
    size = mkOption {
      type = types.ints.positive;
      example = 200;
      description = "GiB.";
    };
    type = mkOption {
      type = types.nonEmptyStr;
      default = "gp3";
      description = "The kind of volume.";
    };
    device = mkOption {
      type = types.strMatching "/dev/.*";
      default = "/dev/xvda";
      description = "What the image calls its root volume.";
    };
    encrypted = mkOption {
      type = types.bool;
      default = true;
      description = "Whether it is encrypted.";
    };
  };

  login = {
    authorizedKeys = list types.singleLineStr "Public keys that may log in as root. The public key of `sshKey` must be one of them.";
    idleTimeout = mkOption {
      type = quantities.duration;
      default = 3600;
      description = "Seconds, or a text such as `\"1h\"`, after the provisioner's last visit at which an idle machine powers itself off.";
    };
  };
  cloud = login // {
    userData = optional types.str "What a machine is told at its first boot, with placeholders such as `@identity@`. `null`: the identity document, as `nixosModules.build-machine` takes it.";
    endpoint = optional (types.strMatching "https?://.*") "Another address of the API. `null`: the cloud's own.";
  };
in
{
  inherit login;

  ec2.options = cloud // {
    region = mkOption {
      type = types.nonEmptyStr;
      example = "eu-central-1";
      description = "The region.";
    };
    profile = optional types.nonEmptyStr "A profile of the credentials file. `null`: `AWS_PROFILE`, or `default`.";
    credentialsFile = optional secretFile "The credentials file (`aws_access_key_id` and `aws_secret_access_key` by profile); see `services.hydra-provisioner.credentials`. `null`: what AWS' own programs would use, such as the role of the instance that this runs on.";
    image = optional (types.strMatching "ami-.*") "An AMI's id. Exactly one of this, `imageParameter` and `imageFilter` must be set.";
    imageParameter = optional types.nonEmptyStr "The SSM parameter that has the AMI's id.";
    imageFilter = optional (types.submodule imageFilter) "The newest AMI of an owner with a matching name.";
    instanceTypes = mkOption {
      type = names;
      example = [
        "c7i.4xlarge"
        "c7a.4xlarge"
      ];
      description = "Instance types in order of preference.";
    };
    subnets = list types.nonEmptyStr "Ids of subnets in order of preference.";
    zones = list types.nonEmptyStr "Availability zones of the default network in order of preference, in place of `subnets`. Without either EC2 chooses.";
    purchase = mkOption {
      type = types.nonEmptyListOf (
        types.enum [
          "spot"
          "on-demand"
        ]
      );
      default = [ "on-demand" ];
      example = [
        "spot"
        "on-demand"
      ];
      description = "How instances are paid for, in order of preference: the second while the first cannot be had.";
    };
    securityGroups = list types.nonEmptyStr "Ids of security groups. Without any: the network's default one.";
    keyName = optional types.nonEmptyStr "The name of a key pair.";
    instanceProfile = optional types.nonEmptyStr "The name of an instance profile.";
    rootVolume = optional (types.submodule rootVolume) "The root volume. `null`: as the image has it.";
    nestedVirtualization = mkOption {
      type = types.bool;
      default = false;
      description = "Whether virtual machines can run on the instances, for types with the feature kvm. Only c8i, m8i, r8i and their flex kinds can do that.";
    };
    address = mkOption {
      type = types.enum [
        "public"
        "private"
      ];
      default = "public";
      description = "Where an instance is reached.";
    };
    tags = mkOption {
      type = types.attrsOf types.str;
      default = { };
      description = "Further tags of instances and volumes.";
    };
  };

  hcloud.options = cloud // {
    tokenFile = mkOption {
      type = secretFile;
      example = "/run/credentials/hydra-provisioner.service/hcloud-token";
      description = "The file with the project's API token; see `services.hydra-provisioner.credentials`.";
    };
    serverTypes = mkOption {
      type = names;
      example = [ "ccx33" ];
      description = "Server types in order of preference.";
    };
    locations = mkOption {
      type = names;
      example = [
        "fsn1"
        "nbg1"
      ];
      description = "Locations in order of preference.";
    };
    image = optional types.nonEmptyStr "Name or number of the image or snapshot. This or `imageSelector` must be set.";
    imageSelector = optional types.nonEmptyStr "A label selector: the newest snapshot with these labels.";
    sshKeys = list types.nonEmptyStr "Names or numbers of the project's ssh keys.";
    networks = list types.ints.positive "Numbers of networks to attach.";
    firewalls = list types.ints.positive "Numbers of firewalls to apply.";
    placementGroup = optional types.ints.positive "Number of a placement group.";
    address = mkOption {
      type = types.enum [
        "ipv4"
        "ipv6"
        "private"
      ];
      default = "ipv4";
      description = "Where a server is reached: its public IPv4 address, an IPv6 address alone, or the address in the first of `networks` alone.";
    };
    labels = mkOption {
      type = types.attrsOf types.str;
      default = { };
      description = "Further labels.";
    };
  };
}
