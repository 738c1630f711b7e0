# For people without flakes: nix-build, or nix-env -if . ; the packages are those of your <nixpkgs>.
{
  pkgs ? import <nixpkgs> { },
}:

pkgs.callPackage ./nix/package.nix { }
