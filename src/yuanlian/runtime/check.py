"""``yuanlian check``: would the platform start with these settings, and do its servers answer?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection

from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError

from yuanlian.kit.clock import SystemClock
from yuanlian.runtime import servers
from yuanlian.runtime.console import console, say, table
from yuanlian.runtime.host_names import UnknownHostError, look_up
from yuanlian.runtime.settings import (
    PREFIX,
    Settings,
    UnsupportedSettingError,
    origins,
    unknown_variables,
)

PROMPT_S = 1.0
"""Whoever has not answered by then is waited for while other things are done."""


class UnfitError(Exception):
    """The platform could not start, or could not do its work."""


def check(settings: Settings, options: Collection[str]) -> int:
    """Prints settings with their source, secrets masked, and one line per part; 1 when one is unfit.

    ``options``: the settings given on the command line.
    """
    _show_settings(settings, options)
    for name in unknown_variables():
        say(f"note  {name} is in the environment, but there is no such setting", "yellow")
    return asyncio.run(_report(settings, options))


def _show_settings(settings: Settings, options: Collection[str]) -> None:
    found = table("setting", "value", "from")
    origin = origins(options)
    for name in Settings.model_fields:
        found.add_row(PREFIX + name.upper(), _shown(name, getattr(settings, name)), origin[name])
    console().print(found)


def _shown(name: str, value: object) -> str:
    if value is None or value in ((), {}):
        return "-"
    # A text that is no URL may be a password as a whole.
    if isinstance(value, SecretStr) or (name.endswith("_url") and "://" not in str(value)):
        return servers.MASK
    return servers.masked(", ".join(value) if isinstance(value, tuple) else str(value))


async def _report(settings: Settings, options: Collection[str]) -> int:
    unfit = 0
    for part, found in (await _ask_all(settings, options)).items():
        if isinstance(found, UnfitError):
            say(f"FAIL  {part}: {found}", "red")
            unfit = 1
        else:
            say(f"ok    {part}: {found}")
    return unfit


async def _ask_all(settings: Settings, options: Collection[str]) -> dict[str, str | UnfitError]:
    """In the order in which they are said. Servers are asked at once; what is here is looked at when they
    have answered, or while they are waited for."""
    named = servers.asked(settings)
    asking = asyncio.gather(servers.ask(settings, named), _found(_ask_mail(settings, options)))
    await asyncio.wait((asking,), timeout=PROMPT_S)
    # In a thread, because half of the platform is imported for it: here, a server that is slow would have
    # answered in time and not been heard.
    with_file = "database_url" not in named
    here = await asyncio.to_thread(lambda: asyncio.run(_look_around(settings, options, with_file=with_file)))
    answers, mail = await asking
    found: dict[str, str | UnfitError] = {"settings": here.pop("settings")}
    if with_file:
        found["database"] = here.pop("database")
    for name, answer in answers.items():
        unfit = isinstance(answer, servers.UnfitServerError)
        part = "database" if name == "database_url" else name
        found[part] = UnfitError(servers.told(settings, name, answer, options)) if unfit else str(answer)
    return found | here | {"mail": mail}


async def _look_around(
    settings: Settings, options: Collection[str], *, with_file: bool
) -> dict[str, str | UnfitError]:
    """What is on this machine. ``with_file``: the database is one."""
    found = {"settings": await _found(_ask_settings(settings))}
    if with_file:
        found["database"] = await _found(_ask_file(settings, options))
    found["routes"] = await _found(_ask_routes(settings))
    found["certificates"] = await _found(_ask_certificates(settings))
    return found


async def _found(asking: Awaitable[str]) -> str | UnfitError:
    try:
        return await asking
    except UnfitError as error:
        return error


async def _ask_settings(settings: Settings) -> str:
    try:
        if servers.asked(settings):
            from yuanlian.runtime.service_wiring import refuse_embedded  # the services are not imported

            refuse_embedded(settings)
        else:
            from yuanlian.runtime.wiring import refuse_unsupported  # here all of them are

            refuse_unsupported(settings)
    except UnsupportedSettingError as error:
        raise UnfitError(str(error)) from None
    return "this release can follow them"


async def _ask_file(settings: Settings, options: Collection[str]) -> str:
    from yuanlian.kit.database.sqlite import SqliteDatabase  # its libraries only where it is used
    from yuanlian.runtime.schema import SchemaError, examine, outlook

    try:
        path = settings.database_path
        if not path.is_file():
            raise UnfitError(f"there is none at {path}; `yuanlian up` makes it")
        database = SqliteDatabase(path)
        try:
            revision = await database.read(lambda session: examine(session.connection()))
        finally:
            await database.close()
    except (ValueError, SchemaError) as error:
        raise UnfitError(_of_file(settings, str(error), options)) from None
    except SQLAlchemyError as error:
        raise UnfitError(_of_file(settings, str(getattr(error, "orig", error)), options)) from None
    return f"{path} answers, {outlook(revision)}"


def _of_file(settings: Settings, reason: str, options: Collection[str]) -> str:
    if settings.database_url is None:
        return f"{settings.database_path}: {reason}"
    return servers.told(settings, "database_url", reason, options)


async def _ask_routes(settings: Settings) -> str:
    from yuanlian.gateway.routes import DEFAULT_ROUTES  # the gateway, too, while others are waited for
    from yuanlian.runtime.routing import RoutesRefusedError, RoutesSource

    source = RoutesSource(settings.routes or DEFAULT_ROUTES)
    try:
        routes = source.read().routes
    except RoutesRefusedError as error:
        raise UnfitError(str(error)) from None
    return f"{len(routes)} in {source.path if settings.routes else 'the packaged file'}"


async def _ask_certificates(settings: Settings) -> str:
    if settings.tls_dir is None:
        return "none, the public port speaks plain HTTP"
    from yuanlian.gateway.certificates import CertificateError  # only where there are any
    from yuanlian.gateway.tls import Tls

    tls = Tls(settings.tls_dir, SystemClock())
    try:
        tls.read()
        return await tls.check()
    except CertificateError as error:
        raise UnfitError(str(error)) from None


async def _ask_mail(settings: Settings, options: Collection[str]) -> str:
    if settings.smtp_url is None:
        return f"kept in {settings.data_dir / 'mail'}"
    from yuanlian.services.notification.smtp import SmtpMailer  # its library only where mail is sent

    limit = servers.ANSWER_S
    try:
        url = settings.smtp_url.get_secret_value()
        mailer = SmtpMailer(url, timeout=limit)
        async with asyncio.timeout(limit):
            await look_up(url)
            await mailer.ping()
    except TimeoutError:
        raise UnfitError(
            servers.told(settings, "smtp_url", f"no answer within {limit:g} s", options)
        ) from None
    except (ValueError, OSError, UnknownHostError) as error:
        reason = str(error) or type(error).__name__
        raise UnfitError(servers.told(settings, "smtp_url", reason, options)) from None
    return "the server lets us in"
