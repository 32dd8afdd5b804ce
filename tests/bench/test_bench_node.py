"""What the node adds to a bare pipeline call: the same images three ways, interleaved."""

import time

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from edge_node.catalog import ZOO, Catalog
from edge_node.config import CacheConfig, EngineConfig, ModelConfig, NodeConfig
from edge_node.engine.diffusers_engine import DiffusersEngine
from edge_node.node import Node
from edge_node.server import SERVICE
from edge_node.servicer import EdgeNodeServicer
from protos.clients import EdgeNodeClient
from protos.edge_node_pb2_grpc import add_EdgeNodeServiceServicer_to_server
from protos.messages import GenerateRequest
from protos.serving import listening
from tests.fakes import job

MODEL, PROMPT, ROUNDS, NUM_STEPS = "scene-base", "a large red circle at the center", 15, 20


@pytest.mark.bench
def test_what_the_node_adds_to_the_pipeline(capsys):
    engine = DiffusersEngine(EngineConfig())
    ways = engine.thread.run(_measure(engine))
    bare = np.array(ways["pipeline"])
    with capsys.disabled():
        print(f"\n{MODEL}, {NUM_STEPS} steps, one request at a time, {ROUNDS} rounds")
        print(f"{'way':<22}{'median s':>10}{'ratio to pipeline: median [quartiles]':>42}")
        for way, seconds in ways.items():
            ratios = np.array(seconds) / bare
            low, middle, high = np.percentile(ratios, [25, 50, 75])
            print(f"{way:<22}{np.median(seconds):>10.4f}{middle:>22.3f} [{low:.3f}, {high:.3f}]")
    assert np.median(np.array(ways["node over gRPC"]) / bare) < 1.5


async def _measure(engine: DiffusersEngine) -> dict[str, list[float]]:
    models = (ModelConfig(model_id=MODEL, source=f"builtin:{MODEL}"),)
    config = NodeConfig(models=models, cache=CacheConfig(capacity_bytes=10**9))
    node = Node(config, Catalog(models), engine)
    await node.cache.load(MODEL)
    pipeline = StableDiffusionPipeline.from_pretrained(ZOO / MODEL, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    ways: dict[str, list[float]] = {"pipeline": [], "engine, in process": [], "node over gRPC": []}
    async with (
        listening(
            "127.0.0.1:0",
            SERVICE,
            lambda server: add_EdgeNodeServiceServicer_to_server(EdgeNodeServicer(node), server),
        ) as bound,
        EdgeNodeClient(bound.address, deadline_s=60) as client,
    ):
        for index in range(ROUNDS + 2):
            began_s = [time.perf_counter()]
            await engine.thread.call(
                lambda seed: pipeline(
                    PROMPT,
                    num_inference_steps=NUM_STEPS,
                    guidance_scale=3.0,
                    generator=torch.Generator().manual_seed(seed),
                ),
                index,
            )
            began_s.append(time.perf_counter())
            async for _ in engine.generate(job(index, MODEL, prompt=PROMPT, num_steps=NUM_STEPS)):
                pass
            began_s.append(time.perf_counter())
            request = GenerateRequest(
                request_id=str(index),
                model_id=MODEL,
                prompt=PROMPT,
                num_steps=NUM_STEPS,
                guidance_scale=3.0,
                seed=index,
            )
            async for _ in client.generate(request):
                pass
            began_s.append(time.perf_counter())
            if index >= 2:  # the first rounds warm up
                for way, seconds in zip(ways.values(), np.diff(began_s), strict=True):
                    way.append(float(seconds))
    await node.close()
    return ways
