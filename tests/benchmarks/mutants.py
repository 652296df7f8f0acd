"""Do the tests hold values? Plants one fault at a time in a copy of the package, and runs the tests that must fail.

    python tests/benchmarks/mutants.py                 # all
    python tests/benchmarks/mutants.py --only unet     # those whose file or text holds a word
    python tests/benchmarks/mutants.py --check         # only: is each text still there, once?

Prints a line a mutant: killed, or SURVIVED. Exit status 1 where one survives, 2 where a text is no longer there:
then bring the list up to date. Needs fork, so Linux or macOS.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

DIFFUSION = "unit/test_diffusion.py"
EVALUATION = "unit/test_evaluation.py"
GUIDANCE = "unit/test_guidance.py"
IMAGEN = "unit/test_imagen.py"
IMAGES = "unit/test_images.py"
OPTIMIZERS = "unit/test_optimizers.py"
OUTPUTS = "golden/test_outputs.py"
SAMPLERS = "unit/test_samplers.py"
SCENES = "unit/test_scenes.py"
STAGE = "unit/test_stage.py"
UNET = "unit/test_unet.py -k not one_batch"
STREAMS = "unit/test_streams.py"
NUMBERS = "unit/test_command_line.py"
TEXT = "unit/test_text.py"
MUON = f"{OPTIMIZERS}::test_muon_is_its_formula"
GROUPS = f"{OPTIMIZERS}::test_which_parameter_is_moved_by_which_optimizer_and_with_what"
WHOLE = OUTPUTS + " -k each_sampler and sr256"
DOCTOR = "unit/test_doctor.py"
CLINIC = "course/test_clinic.py"
CLI = "integration/test_cli.py"
STEP = "gpu/test_step.py"
TRAINING = "integration/test_training.py"
RUNS = "integration/test_faults_of_runs.py"
FOLDERS = "integration/test_faults_of_folders.py"
FAULTS = "integration/test_faults_of_the_command_line.py"
ALL = "integration/test_train_all.py -k numbers or minutes or seeds"
GOLDEN = "unit/test_golden.py"
ALL_OF_IT = "integration/test_train_all.py"
CONTROLS = "integration/test_faults_of_control.py"
STRICT = "unit/test_strict_judge.py"
EVERYDAY = "unit/test_everyday.py"
YOURS = "course/test_yours.py"
WORLD = "course/test_world_values.py"
WORLDS = "course/test_world.py"
WORDS = "course/test_words.py"
EDITIONS = "course/test_editions.py -k sample or guess or answer_runs or marks"
MINE = "course/test_my_imagen.py"
RANGES = "unit/test_config_ranges.py"
FILES = "unit/test_files.py"
STEPS = "golden/test_first_steps.py"
RUN = "unit/test_run.py"
REQUESTS = "unit/test_requests.py"
CONTROL = "unit/test_control.py"
ORDER = f"{TRAINING} -k order or classes or mixed"

# file in minimagen/, text, what stands there instead, tests in tests/ of which one must fail
MUTANTS: list[tuple[str, str, str, str]] = [
    # found by a review, which saw them survive
    ("diffusion.py", "clamp(max=max_loss_weight)", "clamp(min=max_loss_weight)", DIFFUSION),
    ("images.py", 'mode="bilinear", align_corners=False', 'mode="nearest"', IMAGES),
    ("training/optimizers.py", "torch._foreach_lerp(grads, buffers, momentum)", "buffers", MUON),
    ("training/optimizers.py", "(lr * max(1.0, rows / columns) ** 0.5)", "lr", MUON),
    ("training/optimizers.py", '"momentum": 0.95', '"momentum": 0.5', MUON),
    ("training/optimizers.py", "(0.9, 0.98)", "(0.9, 0.999)", GROUPS),
    ("unet.py", "torch.linspace(-3, 3, 32)", "torch.linspace(-9, -3, 32)", UNET),
    ("stage.py", 'steps: int | None = None,\n        sampler: str = "dpm_solver"',
     'steps: int | None = None,\n        sampler: str = "ddim"', OUTPUTS + " -k otherwise"),
    ("stage.py", "guidance=2.0, aug_level=0.05", "guidance=2.0, aug_level=0.2", STAGE),
    ("stage.py", "max_loss_weight=8.0", "max_loss_weight=5.0", STAGE),
    ("training/loop.py", "1.0, (1 - progress)", "1.0, max(0.04, 1 - progress)", OPTIMIZERS),
    ("scenes/dataset.py", "rng.random() < 0.9", "rng.random() < 0.5", SCENES + " -k often"),
    ("images.py", "* 127.5).round()", "* 127.5)", IMAGES),
    # those that it saw killed
    ("guidance.py", "null_mask[:, 0] = True", "null_mask[:, :2] = True", GUIDANCE),
    ("unet.py", "attn_mask=mask[:, None, None, :])", "attn_mask=mask[:, None, None, :], scale=1.0)", UNET),
    ("training/ema.py", "(1 + updates) / (10 + updates))\n", "(1 + updates) / (2 + updates))\n", OPTIMIZERS),
    ("training/optimizers.py", "self.parameters, self.clip_norm", "self.parameters, 1e9", OPTIMIZERS),
    ("stage.py", "max_aug_level=0.3", "max_aug_level=0.6", STAGE),
    ("guidance.py", "x_0.clamp(-1, 1)", "x_0.clamp(-1.5, 1.5)", GUIDANCE),
    ("stage.py", "SCHEDULES[config.schedule]", 'SCHEDULES["cosine"]', WHOLE),
    ("evaluation/suites.py", "seed: int = 1", "seed: int = 2", "unit/test_golden.py"),
    # diffusion
    ("diffusion.py", 'sigma * eps  # (B', 'sigma**2 * eps  # (B', DIFFUSION),
    ("diffusion.py", "alpha * eps - sigma * x_0", "alpha * eps + sigma * x_0", DIFFUSION),
    ("diffusion.py", "1e-4 + 0.1 * t", "1e-4 + 0.2 * t", DIFFUSION),
    ("diffusion.py", '"eps": snr,', '"eps": snr + 1,', DIFFUSION),
    ("diffusion.py", ".square()\n    return (error", ".abs()\n    return (error", DIFFUSION),
    # samplers
    ("samplers.py", "c.sqrt() * sigma_s", "c * sigma_s", SAMPLERS),
    ("samplers.py", "* h / (2 * h_last)", "* h / h_last", SAMPLERS),
    ("randomness.py", "STREAMS + stream", "STREAMS + stream % 2 * 4", OUTPUTS + " -k seed"),
    ("samplers.py", "torch.linspace(1, 0, steps + 1", "torch.linspace(1, 0.02, steps + 1", SAMPLERS),
    ("samplers.py", "log_snrs[-1] = torch.full_like(log_snrs[-1], math.inf)", "pass", SAMPLERS),
    # guidance
    ("guidance.py", "w * conditional + (1 - w) * u", "(1 + w) * conditional - w * u", GUIDANCE),
    ("guidance.py", "percentile: float = 0.995", "percentile: float = 0.95", GUIDANCE),
    ("guidance.py", "dropped = u < drop_prob", "dropped = u > drop_prob", GUIDANCE),
    ("guidance.py", ".clamp(min=1)  # (B,)", "  # (B,)", GUIDANCE),
    # unet
    ("unet.py", "(skip + h).mul_(self.scale)", "(skip + h)", UNET),
    ("unet.py", "h, 1 + scale)", "h, scale)", UNET),
    ("unet.py", "math.gcd(channels, 16)", "math.gcd(channels, 8)", UNET),
    ("unet.py", "emb = emb + self.noise_level(low_res_log_snr)", "emb = emb", UNET),
    ("unet.py", "scores.softmax(dim=1)", "scores.softmax(dim=2)", UNET),
    ("unet.py", "~mask[..., None], -math.inf", "~mask[..., None], 0", UNET),
    ("unet.py", "torch.cat([h, stem], dim=1)", "torch.cat([stem, h], dim=1)", WHOLE),
    # text
    ("text.py", "embeddings.half() * mask[..., None], mask", "embeddings.half(), mask", TEXT),
    ("text.py", "MAX_TOKENS = 64", "MAX_TOKENS = 16", TEXT),
    ("text.py", '(aligned["to"] if own else ())', '(aligned.get("to", ()))', TEXT),
    ("text.py", "self._cache[text] for text in texts]", "self._cache[text] for text in sorted(texts)]", TEXT),
    # stage
    ("stage.py", "low_res, log_snr, eps)), log_snr", "low_res, log_snr, eps)), -log_snr", IMAGEN),
    ("stage.py", "**config.time_exponent", "", IMAGEN),
    ("guidance.py", "THRESHOLDS[self.threshold](", "(", IMAGEN),
    ("stage.py", "noise.aug_level * config", "noise.aug_level**0 * config", IMAGEN),
    ("stage.py", "(u * windows.shape[2]).long()", "((u * windows.shape[2]).long() // 2)", STAGE),
    ("stage.py", "caption_drop: float = 0.1", "caption_drop: float = 0.2", STAGE),
    # imagen
    ("config.py", "option(4.0", "option(5.0", OUTPUTS + " -k otherwise"),
    ("imagen.py", "side // 4), 2 * k + 1)", "side // 4), 2 * k)", STREAMS),
    ("imagen.py", "[seed + i for i in", "[seed for i in", STREAMS),
    ("randomness.py", "_generator_of(seed, ANCESTRAL)", "_generator_of(0, ANCESTRAL)", STREAMS),
    # images
    ("images.py", 'mode="area"', 'mode="nearest"', IMAGES),
    ("images.py", "(i % columns * step, i // columns", "(i // columns * step, i % columns", IMAGES),
    ("images.py", "div_(127.5)", "div_(128)", IMAGES),
    # scenes
    ("scenes/dataset.py", "rng.random() < 0.75", "rng.random() < 0.5", SCENES + " -k often"),
    ("scenes/dataset.py", '{scene.place}") < 10', '{scene.place}") < 5', "unit/test_golden.py"),
    ("scenes/dataset.py", "(1 - self.pairs) * 4 / 11", "(1 - self.pairs) * 6 / 11", SCENES + " -k often"),
    ("scenes/scene.py", "len(asked) == len(shown)", "len(asked) <= len(shown)", SCENES),
    ("scenes/captions.py", '"{b} to the right of {a}"', '"{a} to the right of {b}"', "unit/test_golden.py"),
    # training
    ("training/optimizers.py", "shape) >= 16\n", "shape) >= 8\n", GROUPS),
    ("training/optimizers.py", '("stem", "out")', '("stem",)', GROUPS),
    ("training/optimizers.py", "polynomial @ gram @ polynomial", "polynomial @ gram", MUON),
    ("training/optimizers.py", "1 - lr * group", "1 - 0.01 * group", MUON),
    ("training/ema.py", "weights, 1 - self.decay)\n", "weights, self.decay)\n", OPTIMIZERS),
    ("training/ema.py", "weights, 1 - self.decay))", "weights, self.decay))", OPTIMIZERS),
    ("training/loop.py", "(step + 1) / max(1, config.warmup_steps)", "(step + 1) / 40", OPTIMIZERS),
    ("randomness.py", "1_000_003 + step)", "1_000_003)", OPTIMIZERS),
    # evaluation
    ("evaluation/alignment.py", "/ (4 * n)", "/ n", EVALUATION + " -k wilson"),
    ("evaluation/alignment.py", "append(all(right", "append(any(right", EVALUATION + " -k counted"),
    ("evaluation/judge.py", 'mode="area"', 'mode="nearest"', EVALUATION + " -k each_square"),
    ("evaluation/suites.py", 'rows[i * len(rows) // count]', 'rows[i % len(rows)]', "unit/test_golden.py"),
    # doctor
    ("doctor.py", "if alpha > 0.05", "if alpha > 0.5", DOCTOR),
    ("doctor.py", "elif not errors[target] < constant", "elif False", DOCTOR),
    ("doctor.py", "errors[best] < 0.3 * constant", "False", f"{CLINIC} -k 2]"),
    ("doctor.py", "if largest > FLOAT16_MAX", "if largest > 1e9", f"{CLINIC} -k 4]"),
    ("doctor.py", "idle[0] < 0.9", "idle[0] < 0.1", f"{CLINIC} -k 5]"),
    ("doctor.py", "if others > len(x_0) / 2 and", "if others < 0 and", f"{CLINIC} -k 7]"),
    ("doctor.py", "untold, guess(stage, others, 0.0)", "untold, untold", f"{CLINIC} -k 10]"),
    ("doctor.py", "rms(told, guess(stage, few))", "rms(told, told)", f"{CLINIC} -k 11]"),
    ("doctor.py", "base, x_0.flip(1), text", "base, x_0, text", f"{CLINIC} -k 6]"),
    ("probes.py", "made = downsample(made, small.shape[-1])", "made = small", f"{CLINIC} -k 8]"),
    ("doctor.py", "if x.std() < 0.01", "if x.std() < 0", DOCTOR),
    ("doctor.py", "if far > 0.5", "if far > 50", DOCTOR),
    # cli
    ("cli.py", "(prompt, args.seed + i)", "(prompt, args.seed)", CLI + " -k json_names"),
    ("arguments.py", 'number(int, 0, 5e8)', 'number(int, 0, 5e9)', CLI + " -k mistake"),
    ("config.py", "option(4.0", "option(1.0", NUMBERS),
    ("arguments.py", "if not low <= value <= high", "if not low < value < high", NUMBERS),
    # control
    ("control.py", "denoise(x_t, log_snr), x_0)", "x_0, denoise(x_t, log_snr))", f"{CONTROL} -k every_step"),
    ("control.py", "2 * torch.atan2(", "torch.atan2(", f"{CONTROL} -k noises"),
    ("control.py", "torch.lerp(text_a, text_b,", "torch.lerp(text_b, text_a,", f"{CONTROL} -k words_between"),
    ("guidance.py", "negative or null_text(text, mask)", "null_text(text, mask)", f"{CONTROL} -k leads_away"),
    # training, module by module
    ("training/step.py", "step_seed(self.config.seed, step, stream)",
     "step_seed(self.config.seed, step, 0)", STEPS),
    ("training/step.py", "self.average.updates = step", "self.average.updates = 0", STEPS),
    ("training/step.py", ", *extra) / len(self.parts)", ", *extra)", f"{STEP} -k in_parts"),
    ("training/graph.py", "self.calls <= WARM_UP", "self.calls < WARM_UP", f"{STEP} -k three_calls"),
    ("training/graph.py", "self.given_up, self.result = True, None",
     "self.given_up, self.result = False, None", f"{STEP} -k not_be_captured"),
    ("training/graph.py", "graph.register_generator_state(generator)", "pass", f"{STEP} -k three_calls"),
    ("training/pool.py", "pool_generator(self.config.seed, step)",
     "pool_generator(self.config.seed, 0)", f"{STEP} -k drawn_from"),
    ("training/pool.py", "* 127.5).round()", "* 127.5)", f"{STEP} -k holds"),
    ("training/pool.py", "n = min(n, self.size - at)", "n = min(n, self.size - at - 1) or n", f"{STEP} -k holds"),
    ("training/batches.py", "config.seed, first_step, parts", "config.seed, 0, parts", f"{RUN} -k goes_on_with"),
    ("training/batches.py", 'split("UserError: ")[-1]', 'split("UserError: ")[0]', f"{RUN} -k worker"),
    ("training/step.py", 'accelerator.mixed_precision == "bf16"',
     'accelerator.mixed_precision != "no"', f"{RUN} -k never_in"),
    ("training/cascade.py", '{"base": 0.5, "sr64": 0.35, "sr256": 0.15}',
     '{"base": 0.35, "sr64": 0.5, "sr256": 0.15}', ALL),
    ("training/report.py", "range(first, first + len(prompts))", "range(len(prompts))", ALL),
    ("training/report.py", "steps * batch / seconds", "steps / seconds", ALL),
    ("training/order.py", "seed * 1_000_003 + epoch", "seed * 1_000_003", ORDER),
    ("training/order.py", "step * self.batch + part * size", "step * size + part * self.batch", ORDER),
    ("training/owner.py", "_ours.discard(key)", "pass", f"{RUNS} -k one_process"),
    ("training/owner.py", "fcntl.LOCK_EX", "fcntl.LOCK_SH", f"{RUNS} -k second_process or turns"),
    ("training/owner.py", "if made:", "if not made:", f"{RUNS} -k one_process"),
    ("training/log.py", "<= self.last_step", "< self.last_step", FILES),
    ("training/log.py", "except json.JSONDecodeError:\n            continue",
     "except json.JSONDecodeError:\n            break", FILES),
    ("training/checkpoint.py", '{f"ema.{k}": v for k, v in ema.',
     '{f"ema.{k}": v for k, v in unet.', f"{TRAINING} -k first_step"),
    ("training/checkpoint.py", "if then.get(k) != now[k]",
     "if k in then and then[k] != now[k]", f"{RUN} -k same_settings"),
    ("training/checkpoint.py", '{k: tensors[f"ema.{k}"] for k in stage',
     '{k: tensors[f"model.{k}"] for k in stage', f"{RUN} -k average"),
    # settings, files
    ("config_ranges.py", "and low <= value <= high", "and low < value <= high", RANGES),
    ("config_ranges.py", "type(value) is not bool and ", "", RANGES),
    ("config_ranges.py", "1 <= len(value) <= 8", "0 <= len(value) <= 8", RANGES),
    ("arguments.py", "(train, None)", "(train, 0)", NUMBERS),
    ("arguments.py", "number(int, 1, 64)", "number(int, 0, 64)", NUMBERS),
    ("arguments.py", "default=200", "default=100", NUMBERS),
    ("assets.py", "Path(os.path.realpath(path))", "Path(path)", f"{FAULTS} -k link"),
    ("assets.py", "aside.chmod(0o644)", "aside.chmod(0o600)", FILES),
    ("assets.py", "except BaseException:\n        aside.unlink(missing_ok=True)",
     "except BaseException:\n        pass", FILES),
    # scenes
    ("scenes/everyday.py", "plain=0.5", "plain=0.6", f"{GOLDEN} -k captions"),
    ("scenes/everyday.py", "typos=0.14", "typos=0.04", f"{EVERYDAY} -k typos_are"),
    ("scenes/spelling.py", "        told.append(str(further()))", "        pass", f"{EVERYDAY} -k typo"),
    ("scenes/spelling.py", " and wrong.lower() not in kept_spellings(wider)", "", f"{EVERYDAY} -k typo"),
    ("scenes/everyday.py", "{'is' if len(asked.things) == 1 else 'are'}", "is", f"{EVERYDAY} -k true or articles"),
    ("scenes/folder.py", ' or ".." in pure.parts', "", f"{FOLDERS} -k outside"),
    ("scenes/folder.py", '("text", "caption") if',
     '("caption", "text") if', f"{FOLDERS} -k right_in or format or wrong_with"),
    ("scenes/folder.py", ' + caption.encode() + b"\\0"', "", f"{FOLDERS} -k identity"),
    ("scenes/artwork.py", "[0.299, 0.587, 0.114]", "[0.114, 0.587, 0.299]", f"{GOLDEN} -k pictures"),
    ("scenes/artwork.py", "key=lambda p: p[1][1])", "key=lambda p: -p[1][1])", f"{GOLDEN} -k pictures"),
    ("scenes/artwork.py", "(picture + 0.5).astype", "picture.astype", f"{GOLDEN} unit/test_scenes.py -k pictures"),
    # modules that the rest of the list covers least
    ("scenes/captions.py", 'rng.random() < 0.25 else ""', 'rng.random() < 0.75 else ""', f"{GOLDEN} -k captions"),
    ("scenes/captions.py", '+ "色的"', '+ "的"', f"{GOLDEN} -k captions"),
    ("scenes/captions.py", 'link = "，" if asked.arrangement else "有"', 'link = "有"', f"{GOLDEN} -k captions"),
    ("scenes/scene.py", "self.arrangement == truth.arrangement and all(", "all(", SCENES),
    ("scenes/scene.py", "in (None, getattr(s, name))", "in (None, getattr(s, name), getattr(a, name))", SCENES),
    ("evaluation/distance.py", "2 * roots.sum()", "roots.sum()", EVALUATION + " -k frechet"),
    ("evaluation/judge.py", "self.doubt * len(looks)", "self.doubt", STRICT + " -k doubt or saved or looks"),
    ("evaluation/judge.py", 'mode="replicate"', 'mode="reflect"', EVALUATION + " -k looks"),
    ("evaluation/alignment.py", "seed=2)", "seed=1)", EVALUATION + " -k own"),
    ("training/t5.py", "0.0, -1e9)", "0.0, -1.0)", f"{STEP} -k text_encoder"),
    ("training/t5.py", 'approximate="tanh"', 'approximate="none"', f"{STEP} -k text_encoder"),
    ("training/t5.py", "weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True)",
     "weight * (x * torch.rsqrt(x.var(-1, keepdim=True)", f"{STEP} -k text_encoder"),
    ("training/preview.py", "seeded_noise(seeds, small.shape[1:], 1)", "seeded_noise(seeds, small.shape[1:], 0)",
     f"{TRAINING} -k preview_has"),
    ("training/preview.py", "torch.cat([images, made.cpu()])", "torch.cat([made.cpu(), images])",
     f"{TRAINING} -k preview_has"),
    ("training/plan.py", "if data != plan.data", "if False", f"{ALL_OF_IT} -k keeps"),
    ("training/plan.py", "scenes=plan.scenes", "scenes=request.scenes", f"{ALL_OF_IT} -k plan"),
    ("training/run.py", 'request.settings.get("seed", TrainConfig().seed)', "0", RUN),
    ("training/run.py", ' - {"workers"}', "", RUN),
    ("training/run.py", "smaller // parts * parts", "smaller", REQUESTS),
    ("training/run.py", "(begun[\"run\"].get(\"muon_lr\", config.muon_lr) > 0)", "True", RUN),
    ("interrupts.py", "if os.getpid() == self.process:", "if True:", f"{FAULTS} -k ctrl"),
    ("errors.py", '"shared memory")', ")", f"{FAULTS} -k memory"),
    ("images.py", 'small.size, "white")', 'small.size, "black")', f"{FOLDERS} -k transparent or white or mode"),
    ("images.py", "mean(axis=-1) > 127", "mean(axis=-1) > 254", IMAGES),
    ("images.py", "if image.width * image.height > MAX_PIXELS:", "if image.width > MAX_PIXELS:",
     f"{FOLDERS} -k problems or large"),
    ("imagen.py", 'if known == {"whole"}', 'if "whole" in known', f"{IMAGEN} -k knows"),
    ("imagen.py", "guidance if own_guidance is None else own_guidance", "guidance", f"{IMAGEN} -k asked_for"),
    ("imagen.py", 'steps=steps if name == "base" else None', "steps=steps", f"{IMAGEN} -k asked_for"),
    ("cli.py", "(0.6 if args.mask is None else 1.0)", "0.6", CONTROLS),
    ("cli.py", "args.guidance <= 1", "args.guidance < 1", CONTROLS),
    ("probes.py", "d.mean() > 4 * d.std()", "d.mean() > 0 * d.std()", f"{DOCTOR} -k surely"),
    ("control.py", "return strength * times(steps)", "return (strength * times(steps)).clamp(max=0.9)", CONTROL),
    ("text.py", 'in ("Cc", "Cs")', 'in ("Cc",)', TEXT),
    ("randomness.py", "(step_seed(seed, step) + 2**31)", "(step_seed(seed, step) + 2**32)",
     f"{STREAMS} {OPTIMIZERS}"),
    # the course
    ("course/yours.py", "return _refused(core, sentence) if grading() else core.reference",
     "return core.reference", f"{YOURS} -k grading"),
    ("course/yours.py", "if sentence is None:\n                function",
     "if True:\n                function", f"{YOURS} -k by_hand"),
    ("course/yours.py", "given[: len(wanted)] != wanted",
     "given[:1] != wanted[:1]", f"{YOURS} -k arguments or alone or wrong"),
    ("course/editions.py", 'SOLUTION.sub(r"\\g<in>...", text)', 'SOLUTION.sub("...", text)', EDITIONS),
    ("course/editions.py", 'if "complete" in tags:', 'if "completed" in tags:', EDITIONS),
    ("course/editions.py", '{"outputs": [], "execution_count": None}', "{}", EDITIONS),
    ("course/kept.py", "{**read(work() / OLD_TOOLS), **read(work() / FILE), **read(work() / TOOLS)}",
     "{**read(work() / FILE)}", f"{YOURS} -k gans"),
    ("course/kept.py", "own = read(path) | {core.name: text}",
     "own = {core.name: text} | read(path)", f"{YOURS} -k kept or hand or alone or right or second"),
    ("course/kept.py", " or text.split() != source_of(CORE[name].reference).split()", "", f"{YOURS} -k by_hand"),
    ("course/guesses.py", "known.setdefault(\n            guess.question,\n            {",
     "known[guess.question] = dict(\n            {", EDITIONS),
    ("course/guesses.py", '<= CLOSE * (g["high"] - g["low"])', '<= CLOSE * g["high"]', EDITIONS),
    ("course/guesses.py", "if self.value is None:", "if not self.value:", EDITIONS),
    ("course/world.py", "NEVER = ((1, 3), (4, 2))", "NEVER = ((1, 3), (4, 3))", WORLD),
    ("course/world.py", "if (a, b) not in NEVER:", "if True:", f"{WORLDS} -k pairs"),
    ("course/world.py", "[-1 - i for i in range(count)]", "[i for i in range(count)]", WORLD),
    ("course/world_training.py", "(out / STATE).is_file()\n\n\ndef skipped",
     "(out / LOG).is_file()\n\n\ndef skipped", f"{WORLDS} -k last_words"),
    ("course/world_training.py", 'if row["step"] <= step]',
     'if row["step"] < step]', f"{WORLDS} -k pieces"),
    ("course/my_imagen.py", "sum(name in own for name in IN_FILE)", "len(IN_FILE)", f"{MINE} -k told_apart"),
    ("course/my_imagen.py", "if not off <= 1e-3:", "if off == 1e-3:", f"{MINE} -k proof"),
    ("course/my_imagen.py", "block(CORE[name], own.get(name))", "block(CORE[name], None)", f"{MINE} -k told_apart"),
    ("course/words.py", "return 0.45", "return 0.1", f"{WORDS} -k plain_one"),
    ("course/words.py", "range(min(len(text), at + longest), at, -1)",
     "range(at + 1, min(len(text), at + longest) + 1)", f"{WORDS} -k never_saw"),
    ("course/words.py", 'key=lambda row: not row["starter"]',
     'key=lambda row: row["starter"]', f"{WORDS} -k chips"),
]  # fmt: skip


def misplaced() -> list[str]:
    """What is wrong with the list itself: files and texts that are not there exactly once, tests that are gone."""
    told = []
    for file, old, new, tests in MUTANTS:
        path = ROOT / "minimagen" / file
        times = path.read_text(encoding="utf-8").count(old) if path.is_file() else 0
        if times != 1 or old == new:
            told.append(f"{file}: {old!r} stands there {times} times")
        for name in tests.split(" -k ")[0].split():
            if not (ROOT / "tests" / name.split("::")[0]).is_file():
                told.append(f"tests/{name} is gone")
    return told


def copied(folder: Path) -> None:
    """The repository, with a package of its own and links to all the rest."""
    shutil.copytree(
        ROOT / "minimagen", folder / "minimagen", ignore=shutil.ignore_patterns("__pycache__")
    )
    for path in ROOT.iterdir():
        if path.name not in ("minimagen", ".git"):
            (folder / path.name).symlink_to(path)


def run_tests(folder: Path, tests: str, log: Path) -> None:
    """In a process of its own: status 0 where all pass, as pytest has it."""
    import pytest

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = str(folder)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # one that is imported already would warn
    sys.dont_write_bytecode = True
    names, _, words = tests.partition(" -k ")
    options = ["-x", "-q", "-p", "no:cacheprovider", *(["-k", words] if words else [])]
    status = pytest.main([*(f"tests/{name}" for name in names.split()), *options])
    sys.stdout.flush()
    os._exit(int(status))


def status(folder: Path, tests: str, log: Path) -> int:
    child = multiprocessing.get_context("fork").Process(target=run_tests, args=(folder, tests, log))
    child.start()
    child.join()
    return child.exitcode or 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a word of the file or of the text")
    parser.add_argument("--check", action="store_true", help="only whether the texts are there")
    args = parser.parse_args()
    if wrong := misplaced():
        print("\n".join(wrong), file=sys.stderr)
        return 2
    if args.check:
        return 0
    import accelerate  # noqa: F401  (once, for all the processes below)
    import diffusers  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401

    survivors, count = [], 0
    broken: dict[str, int] = {}  # status of each set of tests on the package as it is
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "copy"
        folder.mkdir()
        copied(folder)
        for file, old, new, tests in MUTANTS:
            if args.only not in file and args.only not in old:
                continue
            path, began, log = folder / "minimagen" / file, time.monotonic(), Path(name) / "log"
            if tests not in broken:
                broken[tests] = status(folder, tests, log)
            if broken[tests]:
                print(f"{tests} fails without a mutant:\n{log.read_text()}", file=sys.stderr)
                return 2
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(old, new), encoding="utf-8")
            code = status(folder, tests, log)
            path.write_text(text, encoding="utf-8")
            count += 1
            # 1: a test failed; 2: the mutant does not even import, 4 and 5: no tests were found
            seen = {0: "SURVIVED", 1: "killed"}.get(code, f"status {code}")
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            by = next(
                (line.split()[1].split("::")[-1] for line in lines if line.startswith("FAILED")), ""
            )
            change = f"{old} → {new}".replace("\n", " ")
            print(
                f"{seen:9} {file}: {change}  {by}  ({time.monotonic() - began:.0f} s)", flush=True
            )
            if code != 1:
                survivors.append(f"{file}: {change}")
    print(f"{count - len(survivors)} of {count} killed")
    return 1 if survivors or not count else 0


if __name__ == "__main__":
    sys.exit(main())
