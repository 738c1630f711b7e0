"""The API of Proxmox VE, emulated by `fakepve` (PyPI): one node with one template, 9000, and a virtual machine of others, 101.

It prints where it listens and the file of its certificate. The token is `root@pam!test=secret`.
"""

import asyncio
import sys
import tempfile

from fakepve import FakePve
from fakepve.certs import make_cert


async def boot(pve: FakePve) -> None:
    """Guests have an agent a moment after they were made, with an address and a host key of their own."""
    while True:
        for vm in pve.vms:
            if vm.agent is None:
                address = {"ip-address": f"192.0.2.{vm.vmid % 250}", "ip-address-type": "ipv4", "prefix": 24}
                loopback = {"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8}
                interfaces = [{"name": "lo", "ip-addresses": [loopback]}, {"name": "eth0", "ip-addresses": [address]}]
                key = f"ssh-ed25519 AAAA{vm.vmid} root@builder\n"
                vm.agent = {"interfaces": interfaces, "files": {"/etc/ssh/ssh_host_ed25519_key.pub": key}}
        await asyncio.sleep(0.05)


async def serve(folder: str) -> None:
    certificate, key, _ = make_cert(folder, hosts=("127.0.0.1",))
    pve = FakePve(host="127.0.0.1", port=0)
    pve.time_scale = 0.05
    pve.apitokens["root@pam!test"] = "secret"
    pve.add_vm(9000, "builder", config={"scsi0": "local-lvm:base-9000-disk-0,size=4G", "agent": "1"}, template=True)
    pve.add_vm(101, "farm-1", status="running", config={"scsi0": "local-lvm:vm-101-disk-0,size=4G"})
    await pve.start(certificate, key)
    print(f"listening on https://127.0.0.1:{pve.port}\n{certificate}", flush=True)
    booting = asyncio.create_task(boot(pve))
    await asyncio.to_thread(sys.stdin.buffer.read)
    booting.cancel()
    await pve.stop()


with tempfile.TemporaryDirectory(prefix="proxmox-") as where:
    asyncio.run(serve(where))
