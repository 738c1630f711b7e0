# The options of conf.nix below systemTypes.<TYPE>.provider for clouds.
{ lib }:

let
  inherit (lib) mkOption types;
  quantities = import ./quantities.nix { inherit lib; };
  inherit (quantities) durationOr noted optional;
  inherit (import ./texts.nix { inherit lib; }) described;
  provider = "systemTypes.<T>.provider.";

  # A path literal would copy the secret to the store.
  secretFile = quantities.absolutePath;
  names = types.nonEmptyListOf types.nonEmptyStr;
  architecture = types.enum [
    "x86_64"
    "arm64"
  ];

  list =
    type:
    mkOption {
      type = types.listOf type;
      default = [ ];
    };

  imageFilter.options = described "${provider}ec2.imageFilter." {
    owner = mkOption {
      type = types.nonEmptyStr;
      example = "self";
    };
    name = mkOption {
      type = types.nonEmptyStr;
      example = "hydra-builder-*";
    };
    architecture = optional architecture;
  };
  instanceRequirements.options = described "${provider}ec2.instanceRequirements." {
    cpus = mkOption {
      type = types.ints.positive;
      default = 1;
      example = 16;
    };
    memory = quantities.inMebibytes (mkOption {
      type = quantities.mebibytes;
      default = 0;
      example = "32G";
    });
    architecture = mkOption { type = architecture; };
  };
  purchaseMix.options = described "${provider}ec2.purchaseMix." {
    base = mkOption {
      type = types.ints.unsigned;
      default = 0;
    };
    spotShare = mkOption {
      type = types.ints.between 0 100;
      default = 100;
    };
    fallbackAfter = mkOption {
      type = types.ints.unsigned;
      default = 3;
    };
  };
  rootVolume.options = described "${provider}ec2.rootVolume." {
    size = mkOption {
      type = types.ints.positive;
      example = 200;
    };
    type = mkOption {
      type = types.nonEmptyStr;
      default = "gp3";
    };
    device = mkOption {
      type = types.strMatching "/dev/.*";
      default = "/dev/xvda";
    };
    encrypted = mkOption {
      type = types.bool;
      default = true;
    };
  };

  login = {
    authorizedKeys = list types.singleLineStr;
    idleTimeout = durationOr 3600;
  };
  cloud = login // {
    userData = optional types.str;
    endpoint = optional (types.strMatching "https?://.*");
  };
in
{
  inherit login;

  ec2.options = described "${provider}ec2." (
    cloud
    // {
      region = mkOption {
        type = types.nonEmptyStr;
        example = "eu-central-1";
      };
      profile = optional types.nonEmptyStr;
      credentialsFile = noted "See `services.hydra-provisioner.credentials`." (optional secretFile);
      image = optional (types.strMatching "ami-.*");
      imageParameter = optional types.nonEmptyStr;
      imageFilter = optional (types.submodule imageFilter);
      instanceTypes = mkOption {
        type = types.listOf types.nonEmptyStr;
        default = [ ];
        example = [
          "c7i.4xlarge"
          "c7a.4xlarge"
        ];
      };
      instanceRequirements = optional (types.submodule instanceRequirements);
      subnets = list types.nonEmptyStr;
      zones = list types.nonEmptyStr;
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
      };
      purchaseMix = optional (types.submodule purchaseMix);
      pricingEndpoint = optional (types.strMatching "https?://.*");
      spotQueue = optional (types.strMatching "https?://.*");
      securityGroups = list types.nonEmptyStr;
      keyName = optional types.nonEmptyStr;
      instanceProfile = optional types.nonEmptyStr;
      rootVolume = optional (types.submodule rootVolume);
      nestedVirtualization = mkOption {
        type = types.bool;
        default = false;
      };
      hibernate = mkOption {
        type = types.bool;
        default = false;
      };
      address = mkOption {
        type = types.enum [
          "public"
          "private"
        ];
        default = "public";
      };
      tags = mkOption {
        type = types.attrsOf types.str;
        default = { };
      };
    }
  );

  hcloud.options = described "${provider}hcloud." (
    cloud
    // {
      tokenFile = mkOption {
        type = secretFile;
        example = "/run/credentials/hydra-provisioner.service/hcloud-token";
        description = "See `services.hydra-provisioner.credentials`.";
      };
      serverTypes = mkOption {
        type = names;
        example = [ "ccx33" ];
      };
      locations = mkOption {
        type = names;
        example = [
          "fsn1"
          "nbg1"
        ];
      };
      exchangeRate = quantities.dollars;
      image = optional types.nonEmptyStr;
      imageSelector = optional types.nonEmptyStr;
      sshKeys = list types.nonEmptyStr;
      networks = list types.ints.positive;
      firewalls = list types.ints.positive;
      placementGroup = optional types.ints.positive;
      address = mkOption {
        type = types.enum [
          "ipv4"
          "ipv6"
          "private"
        ];
        default = "ipv4";
      };
      labels = mkOption {
        type = types.attrsOf types.str;
        default = { };
      };
    }
  );
}
