from __future__ import annotations

import sys
import time

import requests

from devstack import places, ports
from devstack.story.ledger import settle_the_books
from devstack.story.scenes import a_new_morning
from devstack.story.stage import Stage, StoryFailed
from devstack.story.stories import STORIES


def main(arguments: list[str]) -> int:
    """`--svg FILE` keeps what was printed as a picture, for the README."""
    names = list(arguments)
    picture = None
    if names[:1] == ["--svg"]:
        _, picture, *names = names
    unknown = [name for name in names if name not in STORIES]
    if unknown:
        print(f"no story {', '.join(unknown)}; there are: {', '.join(STORIES)}", file=sys.stderr)
        return 2
    began = time.monotonic()
    stage = Stage.of(places.home(), ports.base())
    for name in names or STORIES:
        story = STORIES[name]
        stage.title(name, (story.__doc__ or "").strip())
        try:
            a_new_morning(stage)
            story(stage)
        except (StoryFailed, AssertionError, requests.RequestException) as error:
            stage.console.print(f"✘ {name}: {error}", style="bold red", markup=False)
            return 1
    stage.title("ledger", "every fen is accounted for")
    try:
        settle_the_books(stage)
    except StoryFailed as error:
        stage.console.print(f"✘ {error}", style="bold red", markup=False)
        return 1
    stage.console.print(
        f"\n✔ {len(names) or len(STORIES)} stories held: {stage.steps} steps, {stage.events} events over Kafka, "
        f"{time.monotonic() - began:.0f} s",
        style="bold green",
    )
    if picture:
        stage.console.save_svg(picture, title="make demo")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
