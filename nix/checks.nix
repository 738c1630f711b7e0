# What `nix flake check` builds besides the virtual machines: the package (its tests run), the lints, the format.
{ pkgs, hydra-provisioner }:

{
  package = hydra-provisioner;

  clippy = hydra-provisioner.overrideAttrs (old: {
    pname = "hydra-provisioner-clippy";
    nativeBuildInputs = old.nativeBuildInputs ++ [ pkgs.clippy ];
    # Warnings are shown but not denied: a newer clippy has more of them. CI denies them with its own clippy.
    buildPhase = "cargo clippy --workspace --all-targets --offline";
    doCheck = false;
    installPhase = "touch $out";
    # It builds no program.
    dontFixup = true;
  });

  fmt =
    pkgs.runCommand "hydra-provisioner-fmt"
      {
        nativeBuildInputs = [
          pkgs.cargo
          pkgs.rustfmt
        ];
      }
      ''
        cd ${hydra-provisioner.src}
        cargo fmt --all --check
        touch $out
      '';

  nix-fmt = pkgs.runCommand "hydra-provisioner-nix-fmt" { nativeBuildInputs = [ pkgs.nixfmt ]; } ''
    find ${../.} -name '*.nix' -not -path '*/target/*' -exec nixfmt --check {} +
    touch $out
  '';
}
