{
  mkShell,
  hydra-provisioner,
  cargo,
  clippy,
  nixfmt,
  rust-analyzer,
  rustc,
  rustfmt,
}:

mkShell {
  # Its compiler and libraries, and the programs that its tests run.
  inputsFrom = [ hydra-provisioner ];
  packages = [
    cargo
    clippy
    nixfmt
    rust-analyzer
    rustc
    rustfmt
  ];
}
