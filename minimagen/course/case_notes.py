"""The case notes of chapter 15: what each patient has, the line that is wrong, and the project that shipped it."""

from __future__ import annotations

from dataclasses import dataclass

CAUSES: dict[str, str] = {
    "average": "the average of the weights (EMA) is never updated",
    "target": "the output is read as another target (ε, v, x_0) than it was trained for",
    "last step": "the last sampling step does not end at σ = 0",
    "float16": "numbers inside the network are too large for float16",
    "rate": "the learning rate reaches 0 long before the end",
    "colours": "red and blue are exchanged (BGR)",
    "captions": "captions belong to other pictures",
    "range": "the small image comes in [0, 1] instead of [−1, 1]",
    "text mask": "the text's mask is used the wrong way round",
    "halves": "the halves of guidance, with and without words, are mixed up",
    "dropping": "captions are dropped while it draws",
    "softmax": "attention's softmax runs over the wrong axis",
    "schedule": "at t = 1 the schedule leaves something of the picture",
    "young": "the average is too young",
    "seed": "every picture starts from the same noise",
    "threshold": "thresholding takes its percentile of the whole batch",
}


@dataclass(frozen=True)
class Notes:
    """The case notes of a patient: its cause, the line that is wrong and the right one, and who shipped it."""

    cause: str
    wrong: str
    right: str
    source: str  # owner/name#number
    title: str
    told: str  # what happened there
    here: str = ""  # what it did to the pictures and the probes of the chapter

    @property
    def url(self) -> str:
        """Where the bug was reported."""
        name, number = self.source.split("#")
        return f"https://github.com/{name}/issues/{number}"


NOTES: dict[int, Notes] = {
    1: Notes(
        "average",
        "optimizer.step()",
        "optimizer.step(); average.update_parameters(stage)",
        "huggingface/diffusers#5783",
        "train_text_to_image_sdxl.py ema not working",
        "The script for SDXL made an average and saved it, and no line moved it.",
        "The average is the network as it began, whose last layer is 0. It answers v = 0, and so x̂_0 = α x_t.",
    ),
    2: Notes(
        "target",
        'config.target = "eps"',
        'config.target = "v"',
        "huggingface/diffusers#1429",
        "Dreambooth example on SD2-768 model is producing weird results",
        "Stable Diffusion 2 predicts v at 768 pixels; the training script took it for ε.",
        "Read as ε, the output gives x̂_0 = (x_t − σ v) / α. Where there is much noise, α is nearly 0: absurd.",
    ),
    3: Notes(
        "last step",
        "levels[-1] = levels[-2]",
        "levels[-1] = math.inf",
        "huggingface/diffusers#5689",
        "DPM++ leaves residual noise in SDXL images, which is unexpected",
        "The last σ was there twice, instead of 0 at the end: the last step had no length (mended in #6477).",
        "What the last step should have taken away stays. With more steps it begins at less noise: less grain.",
    ),
    4: Notes(
        "float16",
        "unet.half()",
        "unet.bfloat16(), or weights scaled down before a norm",
        "invoke-ai/InvokeAI#4083",
        "[bug]: SDXL generated images are only black",
        "Activations in SDXL's decoder were too large for float16; sdxl-vae-fp16-fix has its weights scaled down.",
        "Inside it, one number passes float16's 65,504 and is infinite. Then comes NaN, then black.",
    ),
    5: Notes(
        "rate",
        "lr_factor(processes * step, processes * progress)",
        "lr_factor(step, progress)",
        "huggingface/diffusers#3954",
        "Wrong learning rate scheduler training step count for examples with multi-gpu.",
        "On N GPUs the schedule was stepped N times a step: with four, it was over after a quarter of the run.",
        "The column `lr_factor` of its log is 0 from there on: three quarters of its training taught it nothing.",
    ),
    6: Notes(
        "colours",
        "cv2.imwrite(path, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))  # of a picture that was BGR already",
        "cv2.imwrite(path, picture)",
        "deforum/sd-webui-deforum#8",
        "Inverted color channels",
        "Frames between two drawn ones were turned once too often, and saved with red and blue exchanged.",
    ),
    7: Notes(
        "captions",
        "latents, text = cache[step], encode(batch.captions)  # the cache was filled in another order",
        "latents, text = cache[batch.names], encode(batch.captions)",
        "huggingface/diffusers#13353",
        "Fix BucketBatchSampler cache alignment in DreamBooth scripts",
        "What was computed beforehand was looked up by step, and the batches were shuffled again in between.",
    ),
    8: Notes(
        "range",
        "low_res = pixels / 255",
        "low_res = pixels / 127.5 - 1",
        "huggingface/diffusers#3391",
        "DeepFloyd super-resolution pipeline generates overexposure image for PIL.Image low-res input",
        "Small pictures from files came in [0, 1]. IF is the model nearest to Imagen that anyone can download.",
    ),
    9: Notes(
        "text mask",
        "text.masked_fill(mask, 0)",
        "text.masked_fill(~mask, 0)",
        "lucidrains/muse-maskgit-pytorch#38",
        "T5 bug?",
        "A missing ~ set every word to zero, and left the padding.",
    ),
    10: Notes(
        "halves",
        "states, pooled = cat([told, untold]), cat([pooled_untold, pooled_told])",
        "states, pooled = cat([told, untold]), cat([pooled_told, pooled_untold])",
        "Nerogar/OneTrainer#775",
        "[Bug]: SDXL ModelSampler mixes up positive and negative pooled prompt embeddings",
        "The states came in one order and the pooled vectors in the other.",
    ),
    11: Notes(
        "dropping",
        "told = network(x_t, log_snr, text, mask)  # drop_prob is 0.5 unless said otherwise",
        "told = network(x_t, log_snr, text, mask, drop_prob=0)",
        "lucidrains/denoising-diffusion-pytorch#199",
        "Question about classifier_free_guidance.py",
        "The default for training was the default for drawing: half of the calls with a class were without.",
    ),
    12: Notes(
        "softmax",
        "scores.softmax(dim=-2)  # over the queries",
        "scores.softmax(dim=-1)  # over the keys",
        "labmlai/annotated_deep_learning_paper_implementations#146",
        "Bug in SA for DDPM UNet?",
        "It was trained so too. Who found it measured both on CIFAR-10: no difference in the Fréchet distance.",
    ),
}
