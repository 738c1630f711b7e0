# The options of conf.nix below systemTypes.<TYPE>.provider for clouds.
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
      description = "Account number, or an alias such as `amazon`.";
    };
    name = mkOption {
      type = types.nonEmptyStr;
      example = "nixos/25.11*";
      description = "Name pattern; `*` matches any text.";
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
      description = "Volume type.";
    };
    device = mkOption {
      type = types.strMatching "/dev/.*";
      default = "/dev/xvda";
      description = "Device name of the image's root volume.";
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
      description = "Time after the provisioner's last contact at which an idle machine powers itself off: seconds, or a string such as `\"1h\"`.";
    };
  };
  cloud = login // {
    userData = optional types.str "User data for the first boot, with placeholders such as `@identity@`. `null`: the identity document, as `nixosModules.build-machine` reads it.";
    endpoint = optional (types.strMatching "https?://.*") "API endpoint. `null`: the cloud's own.";
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
    profile = optional types.nonEmptyStr "Profile of the credentials file. `null`: `AWS_PROFILE`, or `default`.";
    credentialsFile = optional secretFile "The credentials file (`aws_access_key_id` and `aws_secret_access_key` by profile); see `services.hydra-provisioner.credentials`. `null`: AWS' default chain, for example the role of the instance that runs the service.";
    image = optional (types.strMatching "ami-.*") "AMI id. Exactly one of this, `imageParameter` and `imageFilter` must be set.";
    imageParameter = optional types.nonEmptyStr "SSM parameter that contains the AMI id.";
    imageFilter = optional (types.submodule imageFilter) "The newest AMI of an owner with a matching name.";
    instanceTypes = mkOption {
      type = names;
      example = [
        "c7i.4xlarge"
        "c7a.4xlarge"
      ];
      description = "Instance types in order of preference.";
    };
    subnets = list types.nonEmptyStr "Subnet ids in order of preference.";
    zones = list types.nonEmptyStr "Availability zones of the default VPC in order of preference, instead of `subnets`. Without either, EC2 chooses.";
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
      description = "Purchase options in order of preference: the second is used while the first is unavailable.";
    };
    spotQueue = optional (types.strMatching "https?://.*") "Address of the SQS queue that receives the interruption notices of spot instances. `null`: EC2 is polled for them.";
    securityGroups = list types.nonEmptyStr "Security group ids. Without any: the VPC's default.";
    keyName = optional types.nonEmptyStr "Name of a key pair.";
    instanceProfile = optional types.nonEmptyStr "Name of an instance profile.";
    rootVolume = optional (types.submodule rootVolume) "The root volume. `null`: the image's.";
    nestedVirtualization = mkOption {
      type = types.bool;
      default = false;
      description = "Whether instances can run virtual machines, for types with the feature kvm. Only c8i, m8i, r8i and their flex variants support it.";
    };
    address = mkOption {
      type = types.enum [
        "public"
        "private"
      ];
      default = "public";
      description = "Address to connect to.";
    };
    tags = mkOption {
      type = types.attrsOf types.str;
      default = { };
      description = "Additional tags of instances and volumes.";
    };
  };

  hcloud.options = cloud // {
    tokenFile = mkOption {
      type = secretFile;
      example = "/run/credentials/hydra-provisioner.service/hcloud-token";
      description = "File that contains the project's API token; see `services.hydra-provisioner.credentials`.";
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
    image = optional types.nonEmptyStr "Name or id of the image or snapshot. This or `imageSelector` must be set.";
    imageSelector = optional types.nonEmptyStr "Label selector: the newest snapshot with these labels.";
    sshKeys = list types.nonEmptyStr "Names or ids of the project's ssh keys.";
    networks = list types.ints.positive "Ids of networks to attach.";
    firewalls = list types.ints.positive "Ids of firewalls to apply.";
    placementGroup = optional types.ints.positive "Id of a placement group.";
    address = mkOption {
      type = types.enum [
        "ipv4"
        "ipv6"
        "private"
      ];
      default = "ipv4";
      description = "Address to connect to: the public IPv4 address, an IPv6 address only, or the address in the first of `networks` only.";
    };
    labels = mkOption {
      type = types.attrsOf types.str;
      default = { };
      description = "Additional labels.";
    };
  };
}
