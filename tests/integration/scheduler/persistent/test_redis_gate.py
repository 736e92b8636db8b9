"""Every way to say where Redis is, against real servers: passwords, databases, TLS, sentinels."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from support.eventually import eventually_is
from support.redis_server import RedisServer

from odonata.errors import SettingsError, UnavailableError
from odonata.settings.database import RedisSettings, RedisTlsSettings
from scheduler.runtime.persistent.redis_gate import RedisGate

PASSWORD = SecretStr("dragonfly")


async def ping(settings: RedisSettings) -> str:
    """ "ok", or why not."""
    gate = RedisGate(settings)
    try:
        async with gate.enter() as client:
            await client.set("seen", "1")
    except UnavailableError as error:
        return error.detail
    finally:
        await gate.close()
    return "ok"


async def test_password_user_and_database(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--requirepass", "dragonfly") as server:
        with server.client(password="dragonfly") as raw:
            raw.execute_command("ACL", "SETUSER", "odonata", "on", ">secret", "~*", "+@all")
        where: dict[str, Any] = {"addrs": (server.address,)}
        assert await ping(RedisSettings(**where, password=PASSWORD, db=3)) == "ok"
        user = RedisSettings(**where, username="odonata", password=SecretStr("secret"), db=4)
        assert await ping(user) == "ok"
        with server.client(password="dragonfly", db=3) as third:
            assert third.exists("seen") == 1
        for wrong in (RedisSettings(**where), RedisSettings(**where, password=SecretStr("no"))):
            said = await ping(wrong)
            assert "database.redis.username and password" in said
            assert "dragonfly" not in said


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, Path]:
    """Key and self-signed certificate for 127.0.0.1."""
    files = {"key": tmp_path / "key.pem", "cert": tmp_path / "cert.pem"}
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", str(files["key"]), "-out", str(files["cert"]), "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return files


async def test_tls_with_an_authority_and_without(
    tmp_path: Path, certificate: dict[str, Path]
) -> None:
    key, cert = certificate["key"], certificate["cert"]
    arguments = ["--tls-cert-file", str(cert), "--tls-key-file", str(key)]
    arguments += ("--tls-ca-cert-file", str(cert), "--tls-auth-clients", "yes")
    with TlsRedis(tmp_path, *arguments) as server:

        async def ping_by(tls: RedisTlsSettings) -> str:
            return await ping(RedisSettings(addrs=(server.address,), tls=tls))

        assert await ping_by(RedisTlsSettings(ca_cert=cert, cert=cert, key=key)) == "ok"
        blind = RedisTlsSettings(insecure_skip_verify=True, cert=cert, key=key)
        assert await ping_by(blind) == "ok"
        stranger = await ping_by(RedisTlsSettings(cert=cert, key=key))
        assert "self-signed certificate" in stranger
        assert "can't be used" in await ping_by(RedisTlsSettings())


class TlsRedis(RedisServer):
    """One that takes nothing but TLS."""

    def port_arguments(self) -> tuple[str, ...]:
        return ("--port", "0", "--tls-port", str(self.port))


async def test_a_sentinel_names_the_server(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--requirepass", "dragonfly") as server:
        folder = tmp_path / "sentinel"
        folder.mkdir()
        config = folder / "sentinel.conf"
        config.write_text(
            f"sentinel monitor main 127.0.0.1 {server.port} 1\n"
            "sentinel auth-pass main dragonfly\n"
            "requirepass watch\n"
        )
        with Sentinel(folder, config=config) as sentinel:
            settings = RedisSettings(
                addrs=(sentinel.address,),
                master_name="main",
                password=PASSWORD,
                sentinel_password=SecretStr("watch"),
            )
            await eventually_is(lambda: ping(settings), "ok")
            with server.client(password="dragonfly") as raw:
                assert raw.exists("seen") == 1
            unknown = settings.model_copy(update={"master_name": "nobody"})
            assert "can't be used" in await ping(unknown)


class Sentinel(RedisServer):
    """redis-server as a sentinel."""

    def __init__(self, folder: Path, *, config: Path) -> None:
        super().__init__(folder)
        self._config = config

    def words(self) -> list[str]:
        log = str(self._folder / "redis.log")
        return [
            *("redis-server", str(self._config), "--sentinel"),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--logfile", log),
        ]


def test_several_servers_without_sentinels_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"names 2 servers.*masterName"):
        RedisGate(RedisSettings(addrs=("a:1", "b:2")))


async def test_a_cancellation_that_gets_lost_inside_is_made_good() -> None:
    gate = RedisGate(RedisSettings(addrs=("127.0.0.1:1",)))
    entered = asyncio.Event()

    async def operate() -> str:
        async with gate.enter():
            entered.set()
            with suppress(asyncio.CancelledError):  # as wait_for does before Python 3.12
                await asyncio.Event().wait()
        return "went on"

    task = asyncio.ensure_future(operate())
    await entered.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await gate.close()
