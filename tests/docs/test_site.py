"""The site is built without a warning and needs no network; what the pages mention exists."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks import race
from benchmarks.rows import read_rows

ROOT = Path(__file__).parents[2]
CONF, PAGES = ROOT / "conf", ROOT / "docs" / "pages"
TEXTS = {file.stem: file.read_text(encoding="utf-8") for file in [*PAGES.glob("*.md"), ROOT / "README.md"]}


# ---- the site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built pages."""
    directory = tmp_path_factory.mktemp("site")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", "docs/mkdocs.yml", "-d", str(directory)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stderr
    return directory


def test_the_site_has_every_page_and_loads_nothing_from_the_network(site):
    built = {file.relative_to(site).with_suffix("").as_posix() for file in site.rglob("*.html")} - {"404"}
    assert built == {file.relative_to(PAGES).with_suffix("").as_posix() for file in PAGES.rglob("*.md")}
    for page in site.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"?(?:https?:)?//[^>]+>", html), page


def test_the_api_pages_have_every_module_that_says_what_it_is_for(site):
    for page in (site / "api").glob("*.html"):
        modules = [file.stem for file in (ROOT / "diffusion_text" / page.stem).glob("[!_]*.py")]
        html = page.read_text(encoding="utf-8")
        assert modules
        assert not [name for name in modules if f'id="diffusion_text.{page.stem}.{name}"' not in html], page


def test_equations_keep_their_lines(site):
    page = re.sub(r"<[^>]+>", "", (site / "api" / "diffusion.html").read_text(encoding="utf-8"))
    assert re.search(r"^\(1\) linear {10}ᾱ\(i/T\) = .*\n\(2\) cosine {10}ᾱ\(t\) = ", page, re.MULTILINE)


def test_the_pictures_are_drawn_and_each_is_shown(settings, tmp_path):
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs" / "pictures.py")
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    pictures.main(settings[:-1], tmp_path)
    race.frontiers(list(read_rows(race.ROWS).values())).save(tmp_path / "race.svg")
    drawn = {file.name for file in tmp_path.glob("*.svg")}
    assert all("<path" in (tmp_path / name).read_text(encoding="utf-8") for name in drawn)
    shown = {Path(target).name for text in TEXTS.values() for target in re.findall(r"!\[.+?\]\((\S+)\)", text)}
    assert drawn | {"report.png", "trace.png"} == shown == {file.name for file in pictures.PICTURES.iterdir()}


# ---- what is mentioned exists


def flat(node, prefix=""):
    """Dotted names of all that a configuration file sets."""
    if not isinstance(node, dict):
        return {prefix.rstrip(".")}
    names = {name for key, value in node.items() for name in flat(value, f"{prefix}{key}.")}
    return names | {prefix.rstrip(".")}


def settings_of(file):
    """The settings in a file of conf/, by the name under which a command sets them."""
    text = file.read_text(encoding="utf-8")
    group = ".".join(file.relative_to(CONF).parts[:-1])
    package = re.search(r"^# @package (\S+)", text, re.MULTILINE)
    prefix = (package.group(1) if package else group).replace("_global_", "")
    return flat(yaml.safe_load(text), f"{prefix}." if prefix else "")


def mentioned():
    """Every `name=value` in inline code that is this project's to set, with its page."""
    prose = {name: re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL) for name, text in TEXTS.items()}
    return [
        (name, *match.groups())
        for name, text in prose.items()
        for code in re.findall(r"`([^`]+)`", text)
        if not code.startswith("python -m")
        for match in re.finditer(r"(?<!\S)(?!hydra/)([\w./]+)=(\S*)", code)
    ]


def test_every_setting_that_is_mentioned_exists():
    known = {name for file in CONF.rglob("*.yaml") for name in settings_of(file)}
    groups = {folder.relative_to(CONF).as_posix() for folder in CONF.rglob("*") if folder.is_dir()}
    added = set(re.findall(r'title="conf/(\w+)/(\w+).yaml"', TEXTS["adding"]))

    def is_option(group, option):
        named = option and not re.search("[A-Z…]", option)  # unlike NAME, or nothing where the group is meant
        return not named or (CONF / group / f"{option}.yaml").is_file() or (group, option) in added

    def exists(name, value):
        return all(is_option(name, option) for option in value.split(",")) if name in groups else name in known

    assert len(mentioned()) > 100
    assert not [f"{page}: {name}={value}" for page, name, value in mentioned() if not exists(name, value)]


def test_the_readmes_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", TEXTS["README"])
    assert targets
    assert not [target for target in targets if not (ROOT / target).exists()]
