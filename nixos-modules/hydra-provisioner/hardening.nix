# What the program and the programs that it starts (ssh, nix, providers) can do without. `qemu`: whether QEMU, which
# stays behind with this very hardening, is one of them.
{ lib, qemu }:

{
  CapabilityBoundingSet = "";
  DevicePolicy = "closed";
  LockPersonality = true;
  MemoryDenyWriteExecute = true;
  NoNewPrivileges = true;
  PrivateDevices = true;
  PrivateTmp = true;
  PrivateUsers = true;
  ProcSubset = "pid";
  ProtectClock = true;
  ProtectControlGroups = true;
  ProtectHome = true;
  ProtectHostname = true;
  ProtectKernelLogs = true;
  ProtectKernelModules = true;
  ProtectKernelTunables = true;
  ProtectProc = "invisible";
  ProtectSystem = "strict";
  RemoveIPC = true;
  RestrictAddressFamilies = [
    "AF_INET"
    "AF_INET6"
    "AF_UNIX"
  ];
  RestrictNamespaces = true;
  RestrictRealtime = true;
  RestrictSUIDSGID = true;
  SystemCallArchitectures = "native";
  SystemCallErrorNumber = "EPERM";
  SystemCallFilter = [
    "@system-service"
    "~@privileged"
    "~@resources"
  ];
  UMask = "0022";
}
// lib.optionalAttrs qemu {
  # Port 22 of the machines' loopback addresses; a capability of a user namespace would not count there.
  AmbientCapabilities = [ "CAP_NET_BIND_SERVICE" ];
  CapabilityBoundingSet = [ "CAP_NET_BIND_SERVICE" ];
  PrivateUsers = false;
  DeviceAllow = [ "/dev/kvm rw" ];
  PrivateDevices = false;
  # Emulation writes the code that it runs.
  MemoryDenyWriteExecute = false;
  # How much memory the host has: /proc/meminfo.
  ProcSubset = "all";
  # Machines outlive the process that starts them.
  KillMode = "process";
}
