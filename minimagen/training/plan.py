"""The plan of `minimagen train all`: what a run is begun with, checked and written first, and kept when resumed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..assets import write_json
from ..config import PLAN, RESOLUTIONS, STAGES, STATE, SceneMix, TrainConfig, flag_of
from ..errors import UserError
from ..scenes import Folder
from ..stage import Stage
from ..text import TextEncoder
from .checkpoint import check_unused
from .loop import FREE
from .run import TrainRequest


@dataclass(frozen=True)
class Plan:
    """What out/plan.json holds: what all stages of a run have in common, and a resumed run must keep."""

    settings: dict[str, Any]  # of TrainConfig; minutes are those of all stages together
    scenes: dict[str, Any]  # of Scenes
    data: str | None  # the identity of a folder of images; None: Scenes
    origin: str | None  # the cascade that it started from
    precision: str | None


@dataclass(frozen=True)
class Outset:
    """What a run begins with: its request, completed by the plan, and how far each stage has come."""

    request: TrainRequest
    ended: tuple[str, ...]
    begun: tuple[str, ...]


def outset_of(request: TrainRequest) -> Outset:
    """Check all of a request, and write its plan; resumed, complete it by the plan. Raises UserError."""
    out = request.out
    check_unused(out, resume=False)
    plan = read_plan(out)
    if plan is None and (holds := [name for name in STAGES if (out / name).exists()]):
        raise UserError(f"{out / holds[0]} is there already: give another folder")
    if plan is not None and not request.resume:
        raise UserError(f"{out} holds a run: go on with --resume, or give another folder")
    if plan is not None:
        request = completed(request, plan)
    if len(request.settings.keys() & {"minutes", "steps"}) != 1:
        raise UserError("give either steps or minutes, and not both")
    check_origin(request)
    data = None
    if request.data is not None:
        data = Folder(request.data, RESOLUTIONS["base"], TextEncoder()).identity
    if plan is None:
        origin = None if request.origin is None else str(request.origin)
        plan = Plan(request.settings, request.scenes, data, origin, request.precision)
        write_json(asdict(plan), out / PLAN)
    if data != plan.data:
        what = "Scenes: leave --data out" if plan.data is None else "other pictures: give those"
        raise UserError(f"the run in {out} was begun with {what}")
    return Outset(
        request,
        tuple(name for name in STAGES if (out / name / "model.safetensors").is_file()),
        tuple(name for name in STAGES if (out / name / STATE).is_file()),
    )


def read_plan(out: Path) -> Plan | None:
    """The plan of the run in a folder; None where there is none. Raises UserError where it is damaged."""
    path = out / PLAN
    if not path.is_file():
        return None
    try:
        return Plan(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): start anew in another folder") from error


def completed(request: TrainRequest, plan: Plan) -> TrainRequest:
    """A request to resume, with all that the run was begun with. Raises UserError for what is not the same."""
    out = request.out
    flags = {f.name: flag_of(f) for f in (*fields(TrainConfig), *fields(SceneMix))}
    flags |= {"vocabulary": "--vocabulary", "version": "--captions", "precision": "--precision"}
    then = {**plan.settings, **plan.scenes, "precision": plan.precision}
    now = {**request.settings, **request.scenes}
    if request.precision is not None:
        now["precision"] = request.precision
    for name in now.keys() - (set(FREE) - {"minutes"}):
        if then.get(name) is None:
            raise UserError(f"the run in {out} was begun without {flags[name]}: leave it out")
        if now[name] != then[name]:
            raise UserError(
                f"the run in {out} was begun with {flags[name]} {then[name]}: keep that"
            )
    if plan.data is not None and request.data is None:
        raise UserError(f"the run in {out} is on your own pictures: give --data again")
    settings = {**plan.settings, **request.settings}
    origin = None if plan.origin is None else Path(plan.origin)
    return replace(
        request, settings=settings, scenes=plan.scenes, origin=origin, precision=plan.precision
    )


def check_origin(request: TrainRequest) -> None:
    """Raises UserError where a stage of --from is missing."""
    for name in STAGES if request.origin is not None else ():
        assert request.origin is not None
        if not (request.origin / name / STATE).is_file():
            Stage.load(request.origin / name)
