# Restrictions for the program and the programs that it starts (ssh, nix, providers). `qemu`: whether QEMU is
# one of them; it continues under these restrictions when the service stops.
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
  # For port 22 of the machines' loopback addresses; a capability in a user namespace is not sufficient.
  AmbientCapabilities = [ "CAP_NET_BIND_SERVICE" ];
  CapabilityBoundingSet = [ "CAP_NET_BIND_SERVICE" ];
  PrivateUsers = false;
  DeviceAllow = [ "/dev/kvm rw" ];
  PrivateDevices = false;
  # Emulation (TCG) generates code at run time.
  MemoryDenyWriteExecute = false;
  # /proc/meminfo has the host's memory size.
  ProcSubset = "all";
  # Machines continue when the process that started them ends.
  KillMode = "process";
}
