# The program with QEMU for `provider.qemu`, as `nix run` needs it. The NixOS module gives QEMU to the service itself.
{
  lib,
  writeShellScriptBin,
  hydra-provisioner,
  qemu,
}:

writeShellScriptBin "hydra-provisioner" ''
  PATH="$PATH:${lib.makeBinPath [ qemu ]}" exec ${lib.getExe hydra-provisioner} "$@"
''
