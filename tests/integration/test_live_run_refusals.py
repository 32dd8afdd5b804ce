"""A run that cannot begin says why, by name, and leaves nothing behind."""

import asyncio
import socket

import pytest

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


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:99999", ":5", "here:port"])
def test_an_address_without_a_host_and_a_port_is_refused_by_name(tmp_path, address):
    async def scenario():
        async with fake_node("edge") as node:
            file = write_run(tmp_path, f'attach = "{node.address}"')
            return await cli("run", "--config", str(file), f"--address={address}")

    code, message = asyncio.run(scenario())

    assert code == 2
    assert f"address must be HOST:PORT with a port of 0..65535, got {address!r}" in message


def test_a_checkpoint_that_is_none_is_refused_before_anything_starts(tmp_path):
    file = write_run(tmp_path, 'attach = "127.0.0.1:1"')
    arguments = ("--policy", "t2drl", "--checkpoint", str(tmp_path))

    code, message = asyncio.run(cli("run", "--config", str(file), *arguments))

    assert (code, message.count("\n")) == (2, 1)
    assert f"checkpoint {tmp_path} is not a training run's folder" in message
    assert not (tmp_path / "runs").exists()
