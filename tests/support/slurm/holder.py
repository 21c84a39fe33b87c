"""A client that holds a Slurm job until it is killed; its words are the login node as data and a known_hosts file."""

DIES = """\
import asyncio, sys
import asyncdeploy as ad

async def main():
    async with ad.Pool(host_keys=ad.HostKeys.strict(sys.argv[2])) as pool:
        login = ad.Node.from_dict(eval(sys.argv[1]))
        async with ad.slurm_allocation(login, nodes=1, time_s=60, pool=pool) as allocation:
            print(allocation.name, flush=True)
            await asyncio.sleep(600)

asyncio.run(main())
"""
