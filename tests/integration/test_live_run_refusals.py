"""A run that cannot begin says why, by name, and leaves nothing behind."""

import asyncio
import socket

from tests.integration.live_runs import cli, fake_node, write_run


def test_a_profile_of_other_models_is_refused_and_both_sides_are_named(tmp_path):
    async def scenario():
        async with fake_node("edge", {"a": 40, "tiny": 40}) as node:
            file = write_run(tmp_path, f'attach = "{node.address}"')
            return await cli("run", "--config", str(file))

    code, message = asyncio.run(scenario())

    assert code == 2
    assert "lacks a; it holds tiny, small; the nodes serve a, tiny" in message


def test_a_port_in_use_is_refused_by_name(tmp_path):
    async def scenario():
        async with fake_node("edge") as node:
            file = write_run(tmp_path, f'attach = "{node.address}"')
            code, message = await cli("run", "--config", str(file), "--address", node.address)
            return code, message, node.address

    code, message, address = asyncio.run(scenario())

    assert code == 2
    assert f"cannot listen on {address}" in message


def test_a_node_that_is_not_there_is_refused_by_name(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
        file = write_run(tmp_path, f'attach = "{nobody}"')
        code, message = asyncio.run(cli("run", "--config", str(file)))

    assert code == 2
    assert f"nodes[0].attach: no edge node answers at {nobody}" in message


def test_a_started_node_that_refuses_its_configuration_ends_the_run_with_its_words(tmp_path):
    (tmp_path / "edge.toml").write_text("[cache]\ncapacity_byte = 1\n")
    file = write_run(tmp_path, f'start = "{tmp_path}/edge.toml"')

    code, message = asyncio.run(cli("run", "--config", str(file)))

    assert code == 2
    assert "unknown key 'cache.capacity_byte'; did you mean 'capacity_bytes'?" in message
