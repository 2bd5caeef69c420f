"""``core-engine settings``: what is configured, where it comes from, and profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from core_engine.cli.output import JsonOption, print_json, print_table

if TYPE_CHECKING:
    from core_engine.cli.output import Rows
    from core_engine.settings import Profile

app = typer.Typer(add_completion=False, rich_markup_mode=None, help="Show and change settings, and profiles of them.")
profiles = typer.Typer(add_completion=False, rich_markup_mode=None, help="List, make and choose profiles.")
app.add_typer(profiles, name="profiles")

ChangedOption = Annotated[bool, typer.Option("--changed", help="Only settings that somebody has set.")]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", metavar="NAME", help="Which profile; by default the one in use.")
]


@app.callback(invoke_without_command=True)
def settings(context: typer.Context, changed: ChangedOption = False, json: JsonOption = False) -> None:
    """Show and change settings, and profiles of them."""
    if context.invoked_subcommand is None:
        view(changed, json)


@app.command()
def view(changed: ChangedOption = False, json: JsonOption = False) -> None:
    """Show settings, their values and where these come from. Secrets are masked."""
    from core_engine.settings import get_settings_context

    context = get_settings_context()
    values = context.settings.shown_values()
    sources = _sources(context.profile)
    shown = {name: value for name, value in values.items() if name in sources or not changed}
    if json:
        print_json(
            {
                "profile": context.profile.name,
                "settings": {
                    name.upper(): {"value": value, "source": sources.get(name, "default")}
                    for name, value in shown.items()
                },
            }
        )
        return
    rows: Rows = [[name.upper(), _text(value), sources.get(name, "default")] for name, value in shown.items()]
    typer.echo(f"profile: {context.profile.name}\n")
    print_table(["SETTING", "VALUE", "SOURCE"], rows)


@app.command("set")
def set_values(
    pairs: Annotated[list[str], typer.Argument(metavar="NAME=VALUE...", help="Settings and their new values.")],
    profile: ProfileOption = None,
) -> None:
    """Set settings in a profile."""
    from core_engine.settings.sources import make_settings, profile_origins, setting_name

    chosen = _chosen(profile)
    texts = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise typer.BadParameter(f"{pair!r} is not of the form NAME=VALUE.")
        texts[setting_name(name)] = text
    made = make_settings(texts, profile_origins(texts, chosen))
    values = {name.upper(): _stored(texts[name], getattr(made, name)) for name in texts}
    _change(chosen, values, frozenset(_spellings(chosen, texts)))
    for name in texts:
        typer.echo(f"{name.upper()} = {_text(made.shown_values()[name])} in profile {chosen.name!r}")
    _warn_of_environment(list(texts))


@app.command("unset")
def unset_values(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Settings to take out of the profile.")],
    profile: ProfileOption = None,
) -> None:
    """Take settings out of a profile."""
    from core_engine.settings.sources import setting_name

    chosen = _chosen(profile)
    plain = [setting_name(name) for name in names]
    missing = [name.upper() for name in plain if not _spellings(chosen, [name])]
    if missing:
        raise typer.BadParameter(f"{', '.join(missing)} is not set in profile {chosen.name!r}.")
    _change(chosen, {}, frozenset(_spellings(chosen, plain)))
    typer.echo(f"Took {', '.join(name.upper() for name in plain)} out of profile {chosen.name!r}.")
    _warn_of_environment(plain)


@profiles.command("list")
def list_profiles(json: JsonOption = False) -> None:
    """List the profiles. The one in use has a star."""
    from core_engine.settings import get_settings_context, read_profiles
    from core_engine.settings.profiles import DEFAULT_PROFILE

    context = get_settings_context()
    found = read_profiles(context.settings.profiles_path)
    names = list(dict.fromkeys([DEFAULT_PROFILE, *found.profiles]))
    if json:
        print_json({"path": found.path, "in_use": context.profile.name, "active": found.active, "profiles": names})
        return
    for name in names:
        typer.echo(f"{'*' if name == context.profile.name else ' '} {name}")


@profiles.command("use")
def use(name: Annotated[str, typer.Argument(metavar="NAME", help="A profile.")]) -> None:
    """Make a profile the one that is used when neither the command line nor CORE_ENGINE_PROFILE names one."""
    from core_engine.cli.profile_file import use_profile
    from core_engine.settings import get_current_settings, read_profiles

    path = get_current_settings().profiles_path
    use_profile(path, read_profiles(path)[name].name)
    typer.echo(f"Profile {name!r} is now used.")


@profiles.command("create")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new profile.")],
    copy_from: Annotated[
        str | None, typer.Option("--from", metavar="PROFILE", help="Begin with the settings of this profile.")
    ] = None,
) -> None:
    """Make a profile."""
    from core_engine.cli.profile_file import change_profile
    from core_engine.settings import get_current_settings, read_profiles

    path = get_current_settings().profiles_path
    found = read_profiles(path)
    if name in found.profiles:
        raise typer.BadParameter(f"There is already a profile {name!r} in {path}.")
    change_profile(path, name, dict(found[copy_from].settings) if copy_from else {})
    typer.echo(f"Made profile {name!r}. `core-engine settings profiles use {name}` makes it the active one.")


def _sources(profile: Profile) -> dict[str, str]:
    """Returns where the value of each setting that somebody set comes from, by lower-case name."""
    from core_engine.settings.sources import profile_values, read_environment

    sources = dict.fromkeys(profile_values(profile), f"profile {profile.name!r}")
    return sources | {name: f"CORE_ENGINE_{name.upper()}" for name in read_environment()}


def _chosen(name: str | None) -> Profile:
    from core_engine.settings import get_settings_context, read_profiles

    context = get_settings_context()
    return context.profile if name is None else read_profiles(context.settings.profiles_path)[name]


def _change(profile: Profile, values: dict[str, Any], unset: frozenset[str]) -> None:
    from core_engine.cli.profile_file import change_profile
    from core_engine.settings import get_current_settings

    change_profile(get_current_settings().profiles_path, profile.name, values, unset - values.keys())


def _spellings(profile: Profile, names: Any) -> list[str]:
    """Returns the keys under which the settings stand in the profile: either case, with or without prefix."""
    plain = {name.upper() for name in names}
    return [key for key in profile.settings if key.upper().removeprefix("CORE_ENGINE_") in plain]


def _stored(text: str, value: Any) -> Any:
    """Returns what stands in the file: numbers and truth values as such, all else as it was given."""
    return value if isinstance(value, bool | int | float) else text


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "-"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _warn_of_environment(names: list[str]) -> None:
    """A variable beats the profile: without this line a change that has no effect would look like a fault."""
    from core_engine.settings.sources import read_environment

    environment = read_environment()
    for name in names:
        if name in environment:
            typer.echo(
                f"The environment variable CORE_ENGINE_{name.upper()} is set and goes above the profile.", err=True
            )
