# The build machine as an image for provider.qemu: `system.build.hydraBuildMachine` is a folder with disk.qcow2,
# vmlinuz and initrd.img as `image` takes it, and says with what `kernelParams` it starts.
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
  # Sparse: what is not used takes no room on the host.
  diskSize = "20G";

  kernelParams = [ "init=${toplevel}/init" ] ++ config.boot.kernelParams;

  # Made without a virtual machine. Nix has to know what is in its store.
  rootFileSystem = pkgs.callPackage "${modulesPath}/../lib/make-ext4-fs.nix" {
    storePaths = [ toplevel ];
    volumeLabel = label;
    populateImageCommands = ''
      mkdir -p files/nix/var/nix/profiles files/etc
      NIX_REMOTE="local?root=$PWD/files" USER=nobody ${pkgs.buildPackages.nix}/bin/nix-store --load-db \
        <${pkgs.buildPackages.closureInfo { rootPaths = [ toplevel ]; }}/registration
      # The same image from the same inputs.
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
    # Else a file of the store would be in the way of the name that the machine is given.
    hostName = "";
    useNetworkd = true;
    # Nobody but the host's own processes comes in, through QEMU.
    firewall.enable = false;
  };
  # Nothing waits for the network: ssh comes in when it is there.
  systemd.network.wait-online.enable = false;
  systemd.network.networks."10-qemu" = {
    matchConfig.Type = "ether";
    networkConfig = {
      DHCP = "ipv4";
      LinkLocalAddressing = "no";
    };
    dhcpV4Config = {
      # The machine's name is its identity's.
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
      # A queue runner that vanished does not keep the machine from powering itself off.
      ClientAliveInterval = 60;
      ClientAliveCountMax = 5;
    };
  };

  services.journald.storage = "volatile";
  # Else all of nixpkgs' source would be in the image.
  nixpkgs.flake = {
    setFlakeRegistry = false;
    setNixPath = false;
  };
  # A machine keeps nothing from one image to the next.
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
        # For those who do not ask in Nix.
        cp "$textPath" "$out/kernel-params"
      '';
}
