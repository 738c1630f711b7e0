"""The M/M/8 queue of crates/simulator/benches/engine.rs in SimPy: prints events per second."""

import random
import sys
import time

import simpy

EVENTS = 1_000_000


def customer(env, servers, rng):
    with servers.request() as request:
        yield request
        yield env.timeout(rng.expovariate(1 / 700))


def arrivals(env, servers, rng):
    while True:
        yield env.timeout(rng.expovariate(1 / 100))
        env.process(customer(env, servers, rng))


rng = random.Random(1)
env = simpy.Environment()
servers = simpy.Resource(env, capacity=8)
env.process(arrivals(env, servers, rng))
began = time.perf_counter()
# An arrival and a departure are two events of the other model; simpy needs more internal steps, which do not
# count.
arrived = EVENTS // 2
env.run(until=arrived * 100)
print(EVENTS / (time.perf_counter() - began), file=sys.stdout)
