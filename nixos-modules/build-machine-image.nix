# The build machine as an image for provider.qemu: `system.build.hydraBuildMachine` is a folder with disk.qcow2,
# vmlinuz and initrd.img for `image`, and has the `kernelParams` to boot it.
#
#   provider.qemu = { image = "${image}"; inherit (image) kernelParams; };
{
  config,
  lib,
  modulesPath,
  pkgs,
  ...
}:

let
  inherit (config.system.build) toplevel;
  label = "hydra-builder";
  # Sparse: unused space takes no space on the host.
  diskSize = "20G";

  kernelParams = [ "init=${toplevel}/init" ] ++ config.boot.kernelParams;

  # Built without a virtual machine. The image needs the Nix database of its store.
  rootFileSystem = pkgs.callPackage "${modulesPath}/../lib/make-ext4-fs.nix" {
    storePaths = [ toplevel ];
    volumeLabel = label;
    populateImageCommands = ''
      mkdir -p files/nix/var/nix/profiles files/etc
      NIX_REMOTE="local?root=$PWD/files" USER=nobody ${pkgs.buildPackages.nix}/bin/nix-store --load-db \
        <${pkgs.buildPackages.closureInfo { rootPaths = [ toplevel ]; }}/registration
      # Reproducible: no build time in the database.
      ${pkgs.buildPackages.sqlite}/bin/sqlite3 files/nix/var/nix/db/db.sqlite \
        "UPDATE ValidPaths SET registrationTime = $SOURCE_DATE_EPOCH"
      ln -s ${toplevel} files/nix/var/nix/profiles/system-1-link
      ln -s system-1-link files/nix/var/nix/profiles/system
      touch files/etc/NIXOS
    '';
  };
in
{
  imports = [
    ./build-machine.nix
    "${modulesPath}/profiles/qemu-guest.nix"
    "${modulesPath}/profiles/minimal.nix"
  ];

  fileSystems."/" = {
    device = "/dev/disk/by-label/${label}";
    fsType = "ext4";
    autoResize = true;
  };

  boot = {
    # QEMU loads the kernel.
    loader.grub.enable = false;
    # The disk is the file system.
    growPartition = false;
  };

  networking = {
    # Otherwise a file of the store would override the host name that is passed in.
    hostName = "";
    useNetworkd = true;
    # Only the host's own processes can connect, through QEMU.
    firewall.enable = false;
  };
  # Nothing waits for the network: ssh works as soon as it is up.
  systemd.network.wait-online.enable = false;
  systemd.network.networks."10-qemu" = {
    matchConfig.Type = "ether";
    networkConfig = {
      DHCP = "ipv4";
      LinkLocalAddressing = "no";
    };
    dhcpV4Config = {
      # The host name comes from the identity.
      UseHostname = false;
    };
  };

  services.openssh = {
    hostKeys = [
      {
        type = "ed25519";
        path = "/etc/ssh/ssh_host_ed25519_key";
      }
    ];
    settings = {
      UseDns = false;
      # A lost connection from a queue runner must not prevent the machine from powering off.
      ClientAliveInterval = 60;
      ClientAliveCountMax = 5;
    };
  };

  services.journald.storage = "volatile";
  # Otherwise the image would contain nixpkgs' source.
  nixpkgs.flake = {
    setFlakeRegistry = false;
    setNixPath = false;
  };
  # A machine keeps no state between images.
  system.stateVersion = lib.mkDefault config.system.nixos.release;

  system.build.hydraBuildMachine =
    pkgs.runCommand "hydra-build-machine"
      {
        nativeBuildInputs = [ pkgs.buildPackages.qemu-utils ];
        passthru = { inherit kernelParams; };
        text = lib.concatStringsSep " " kernelParams;
        passAsFile = [ "text" ];
      }
      ''
        mkdir "$out"
        qemu-img convert -f raw -O qcow2 ${rootFileSystem} "$out/disk.qcow2"
        qemu-img resize "$out/disk.qcow2" ${diskSize}
        cp ${config.system.build.kernel}/${config.system.boot.loader.kernelFile} "$out/vmlinuz"
        cp ${config.system.build.initialRamdisk}/${config.system.boot.loader.initrdFile} "$out/initrd.img"
        # For use without Nix.
        cp "$textPath" "$out/kernel-params"
      '';
}
