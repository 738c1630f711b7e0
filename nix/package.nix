# The package. `minimal` leaves out the simulator (`sim`) and leases, and with them 67 of 248 crates.
{
  lib,
  installShellFiles,
  makeBinaryWrapper,
  rustPlatform,
  stdenv,
  nix,
  openssh,
  postgresql,
  procps,
  python3,
  qemu,
  testers,
  util-linux,

  minimal ? false,
}:

let
  workspace = (lib.importTOML ../Cargo.toml).workspace.package;
in
rustPlatform.buildRustPackage (finalAttrs: {
  pname = "hydra-provisioner" + lib.optionalString minimal "-minimal";
  inherit (workspace) version;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../clippy.toml
      ../rustfmt.toml
      ../crates
      # Tests run and read these.
      ../docs
      ../examples
      ../sim-traces
    ];
  };

  # All dependencies come from the crate registry; one from git would need its hash in `outputHashes` here.
  cargoLock.lockFile = ../Cargo.lock;

  buildNoDefaultFeatures = minimal;
  # Of all crates of the workspace, the simulator would be built too.
  cargoBuildFlags = if minimal then [ "--package=hydra-provisioner" ] else [ ];
  # The tests need both; they are those of the complete package.
  doCheck = !minimal;

  nativeBuildInputs = [
    installShellFiles
    makeBinaryWrapper
  ];

  # Emulators of clouds come from PyPI, which a sandbox cannot reach; tests that kill at every system call
  # take minutes and run in CI only. (scripts/ci/check-package reads this line.)
  postPatch = "rm -f crates/*/tests/{hcloud,ec2,crash,crash_service}.rs";

  # Tests evaluate Nix files, connect with ssh, and run the example provider.
  nativeCheckInputs = [
    nix
    openssh
    python3
    procps
    util-linux
    qemu
    postgresql
  ];
  preCheck = ''
    patchShebangs examples
    export HOME="$TMPDIR/home" NIX_STATE_DIR="$TMPDIR/nix/var" NIX_LOG_DIR="$TMPDIR/nix/log" NIX_CONF_DIR="$TMPDIR/nix/etc"
    mkdir -p "$HOME"
    # Tests that use a new store at the same time would conflict.
    nix-store --init
  '';

  # Programs that are already on PATH (the machine's own Nix, NixOps, a provider) come first.
  postInstall = ''
    wrapProgram "$out/bin/hydra-provisioner" --suffix PATH : ${
      lib.makeBinPath [
        nix
        openssh
      ]
    }
    install -Dm644 ${../auto-shutdown.nix} "$out/share/nix/hydra-provisioner/auto-shutdown.nix"
    install -Dm644 ${../monitoring/alerts.yaml} "$out/share/hydra-provisioner/alerts.yaml"
    install -Dm644 ${../monitoring/dashboard.json} "$out/share/hydra-provisioner/dashboard.json"
  ''
  # The new program generates them itself.
  + lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    "$out/bin/hydra-provisioner" generate man "$out/share/man/man1"
    installShellCompletion --cmd hydra-provisioner \
      --bash <("$out/bin/hydra-provisioner" generate completions bash) \
      --zsh <("$out/bin/hydra-provisioner" generate completions zsh) \
      --fish <("$out/bin/hydra-provisioner" generate completions fish)
  '';

  passthru.tests.version = testers.testVersion { package = finalAttrs.finalPackage; };

  # There is no public repository yet, so no homepage and no changelog.
  meta = {
    description =
      "Autoscaler for the build machines of a Hydra"
      + lib.optionalString minimal " (without simulator and leases)";
    longDescription = ''
      Watches the queue of a Hydra, creates build machines when steps wait (EC2, Hetzner Cloud, NixOps, QEMU, or your own
      program), and releases them when they are idle, within limits of number and cost. A simulator answers what a
      configuration would have cost and how long steps would have waited.
    '';
    license = lib.licenses.gpl3Plus;
    sourceProvenance = [ lib.sourceTypes.fromSource ];
    maintainers = [ ];
    mainProgram = "hydra-provisioner";
    platforms = lib.platforms.linux;
  };
})
