"""Diffusion of pictures beside its peers, in one process: how fast, and how good after equal CPU
seconds.

    python benchmarks/picture_peers.py speed
        pictures a CPU second, in training and drawn in 20 steps
    python benchmarks/picture_peers.py equal [seconds=150] [n=1000] [seed=0]
        FID-LeNet of 20 steps after equal CPU seconds of training
    python benchmarks/picture_peers.py told [batch=32]
        ``speed`` of colour pictures of 32 x 32 that are told in 20 words, in float32, as codes that
        are written and out of noise: diffusers' UNet2DConditionModel has the channels of its
        course, and attends to the words below 32 x 32

FashionMNIST, batches of 64, no classes. diffusers' UNet2DModel has the channels of its course on
MNIST and draws by DDIM, as does denoising-diffusion-pytorch; both train by Adam at 4e-4, and draw
by a running average of the weights where they are trained for long. A peer that is not installed is
left out.
"""

import copy
import sys
import time
import types

import numpy as np
import torch
from judges import Judge, fid
from pictures import line

from conjoin import JointDensity
from conjoin.core import Block, Event, Flat, RecordSpace, Space, Variable, stream
from conjoin.core.learning import learning_at
from conjoin.datasets import load_images
from conjoin.families.autoregressive.picture_tokens import PictureTokens, PictureTokensDensity
from conjoin.families.diffusion.denoiser import Denoiser
from conjoin.families.diffusion.painter import Painter
from conjoin.families.diffusion.picture import WORDED, PictureDensity, PictureDiffusion
from conjoin.nets.decoder import Hidden, HiddenConvolution
from conjoin.nets.muon import Muon

BATCH = 64
STEPS = 20
RATE = 4e-4
MEMORY = 0.995
WORDS, VOCABULARY, SIDE = 20, 24, 32  # of pictures that are told in words


class Ours:
    name = "conjoin"

    def __init__(self, X, seed):
        model = (
            JointDensity(family=PictureDiffusion(steps=1), random_state=seed)
            .fit(X[:500], calibration=0.0)
            .model_
        )
        self.encode = lambda x: model.encode(x).event
        event = model.encode(X[:5000]).event
        self.net = PictureDensity.build(model.codec.space, PictureDiffusion(), event, stream(seed))

    def loss(self, x):
        return self.net.train().loss(self.encode(x), generator=None)

    def draw(self, n):
        return self.net.eval().draw(n, steps=STEPS).value.reshape(n, 28, 28)


class Diffusers:
    name = "diffusers, UNet2DModel"

    def __init__(self, X, seed):
        from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel

        self.net = UNet2DModel(
            sample_size=28,
            in_channels=1,
            out_channels=1,
            layers_per_block=2,
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        )
        self.noise = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
        self.way = DDIMScheduler(beta_schedule="squaredcos_cap_v2")

    def loss(self, x):
        x = torch.tensor(x)[:, None] / 127.5 - 1
        when = torch.randint(0, 1000, (len(x),))
        noise = torch.randn_like(x)
        return (self.net(self.noise.add_noise(x, noise, when), when).sample - noise).square().mean()

    def draw(self, n):
        x = torch.randn(n, 1, 28, 28)
        self.way.set_timesteps(STEPS)
        for when in self.way.timesteps:
            x = self.way.step(self.net(x, when).sample, when, x).prev_sample
        return ((x[:, 0] + 1) * 127.5).clamp(0, 255)


class DenoisingDiffusion:
    name = "denoising-diffusion-pytorch"

    def __init__(self, X, seed):
        if "torchvision" not in sys.modules:  # imported for reading files, which is not done here
            vision = types.ModuleType("torchvision")
            vision.transforms = types.ModuleType("torchvision.transforms")
            vision.utils = types.ModuleType("torchvision.utils")
            sys.modules |= {
                "torchvision": vision,
                "torchvision.transforms": vision.transforms,
                "torchvision.utils": vision.utils,
            }
        from denoising_diffusion_pytorch import GaussianDiffusion, Unet

        net = Unet(dim=32, dim_mults=(1, 2, 4), channels=1)
        self.net = GaussianDiffusion(net, image_size=28, timesteps=1000, sampling_timesteps=STEPS)

    def loss(self, x):
        return self.net(torch.tensor(x)[:, None] / 255)

    def draw(self, n):
        return self.net.sample(n)[:, 0] * 255


class OursWritten:
    name = "conjoin, in codes"
    # how far the fit is, and which share of its time is spent so
    phases = ((0.1, PictureTokens().coding), (0.9, 1 - PictureTokens().coding))

    def __init__(self, words):
        pixels = 3 * SIDE * SIDE
        variables = (Variable("pixel", "ordered", cardinality=256),) * pixels
        space = Space((pixels,), variables, "image", (3, SIDE, SIDE))
        mass = Block("columns", "vector", (1,), (Variable("mass", "real"),))
        told = Block("words", "sequence", (WORDS,), (Variable("word", "category", VOCABULARY),))
        context = Flat(RecordSpace((mass, told))).space
        config = PictureTokens(precision="float32")
        rows = torch.randint(256, (len(words), pixels), generator=stream(0)).double()
        self.rows = Event(rows)
        self.context = Event(torch.cat([torch.zeros(len(words), 1), words], 1).double())
        self.net = PictureTokensDensity.build(
            space, config, self.rows, stream(0), context=self.context, context_space=context
        )
        hidden = Hidden | HiddenConvolution
        layers = [each for each in self.net.modules() if isinstance(each, hidden)]
        muon = Muon([layer.weight for layer in layers], config.decay)
        by_muon = {id(matrix) for matrix in muon.matrices}
        others = [each for each in self.net.parameters() if id(each) not in by_muon]
        self.optimizers = [torch.optim.AdamW(others, RATE).step, lambda: muon.step(RATE)]
        self.net.float().train()

    def loss(self, x):
        return self.net.losses(self.rows, self.context, generator=stream(0)).mean()

    def draw(self):
        return self.net.double().sample(self.rows.rows, self.context, generator=stream(0)).value


class OursTold:
    name = "conjoin, out of noise"
    phases = ((None, 1.0),)

    def __init__(self, words):
        config = PictureDiffusion(**WORDED, precision="float32")
        self.words = words.float()
        self.net = Denoiser((3, SIDE, SIDE), 256, 0, config, 0, (WORDS, VOCABULARY))
        hidden = Hidden | HiddenConvolution
        layers = [each for each in self.net.modules() if isinstance(each, hidden)]
        muon = Muon([layer.weight for layer in layers], config.decay)
        by_muon = {id(matrix) for matrix in muon.matrices}
        others = [each for each in self.net.parameters() if id(each) not in by_muon]
        self.optimizers = [torch.optim.AdamW(others, RATE).step, lambda: muon.step(RATE)]

    def loss(self, x):
        return self.net.loss(x, torch.ones_like(x, dtype=torch.bool), self.words, stream(0)).mean()

    def draw(self):
        painter = Painter(self.net, self.words, "multistep", stream(0))
        return painter.from_noise(len(self.words), painter.levels(STEPS))


class DiffusersTold:
    name = "diffusers, UNet2DConditionModel"
    phases = ((None, 1.0),)

    def __init__(self, words):
        from diffusers import DDIMScheduler, DDPMScheduler, UNet2DConditionModel

        self.words = words
        self.embed = torch.nn.Embedding(VOCABULARY, 64)
        self.net = UNet2DConditionModel(
            sample_size=SIDE,
            in_channels=3,
            out_channels=3,
            layers_per_block=2,
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=64,
        )
        self.noise = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
        self.way = DDIMScheduler(beta_schedule="squaredcos_cap_v2")
        parameters = [*self.net.parameters(), *self.embed.parameters()]
        self.optimizers = [torch.optim.AdamW(parameters, RATE).step]

    def loss(self, x):
        when = torch.randint(0, 1000, (len(x),))
        noise = torch.randn_like(x)
        z = self.noise.add_noise(x, noise, when)
        return (self.net(z, when, self.embed(self.words)).sample - noise).square().mean()

    def draw(self):
        x = torch.randn(len(self.words), 3, SIDE, SIDE)
        self.way.set_timesteps(STEPS)
        for when in self.way.timesteps:
            told = self.net(x, when, self.embed(self.words)).sample
            x = self.way.step(told, when, x).prev_sample
        return x


def told(batch=32):
    """Pictures a CPU second, of each in turn."""
    words = torch.randint(VOCABULARY, (int(batch), WORDS), generator=stream(0))
    x = torch.randn(int(batch), 3, SIDE, SIDE, generator=stream(0))
    line("", "parameters", "trained a CPU s", "drawn a CPU s, 20 steps")
    for kind in (OursWritten, OursTold, DiffusersTold):
        peer = kind(words)
        trained = 0.0
        for done, share in peer.phases:
            with learning_at(done):
                trained += share * len(x) * _rate(lambda peer=peer: _told_step(peer, x))
        with torch.no_grad():
            peer.net.eval()
            drawn = len(x) * _rate(peer.draw, 1)
        count = sum(each.numel() for each in peer.net.parameters())
        line(peer.name, f"{count:,}", f"{trained:.1f}", f"{drawn:.2f}")


def _told_step(peer, x):
    for parameter in peer.net.parameters():
        parameter.grad = None
    peer.loss(x).backward()
    for step in peer.optimizers:
        step()


def peers(X, seed):
    for kind in (Ours, Diffusers, DenoisingDiffusion):
        torch.manual_seed(seed)
        try:
            yield kind(X, seed)
        except ImportError as error:
            line(kind.name, f"left out: {error}")


def speed():
    X = load_images("fashion_mnist").x_train.astype("float32")
    line("", "parameters", "trained a CPU s", "drawn a CPU s, 20 steps")
    for peer in peers(X, 0):
        optimizer = torch.optim.AdamW(peer.net.parameters(), RATE)
        trained = BATCH * np.median(
            [
                _rate(lambda peer=peer, optimizer=optimizer: _step(peer, optimizer, X[:BATCH]))
                for _ in range(3)
            ]
        )
        with torch.no_grad():
            drawn = BATCH * _rate(lambda peer=peer: peer.draw(BATCH), 1)
        line(
            peer.name,
            f"{sum(p.numel() for p in peer.net.parameters()):,}",
            f"{trained:.1f}",
            f"{drawn:.2f}",
        )


def equal(seconds=150, n=1000, seed=0):
    """Ours at its own rate, which falls to nothing as the seconds run out, and in its own batches;
    running averages of the weights draw."""
    data = load_images("fashion_mnist")
    n = int(n)
    seed = int(seed)
    judge = Judge.trained(data.x_train, data.y_train)
    X = data.x_train.astype("float32")
    real = judge.features(data.x_test)
    line("", "CPU s of training", "pictures seen", "FID-LeNet", "CPU s of drawing")
    line("real against real", "", "", f"{fid(judge.features(data.x_train[:n]), real):.3f}", "")
    for peer in peers(X, seed):
        ours = isinstance(peer, Ours)
        batch, rate = (PictureDiffusion().batch, PictureDiffusion().rate) if ours else (BATCH, RATE)
        optimizer = torch.optim.AdamW(peer.net.parameters(), rate)
        average = copy.deepcopy(peer.net)
        started = time.process_time()
        steps = 0
        random = np.random.default_rng(seed)
        while (share := (time.process_time() - started) / float(seconds)) < 1:
            optimizer.param_groups[0]["lr"] = rate * (np.cos(share * np.pi / 2) ** 2 if ours else 1)
            _step(peer, optimizer, X[random.choice(len(X), batch, replace=False)])
            steps += 1
            with torch.no_grad():
                for slow, fast in zip(average.parameters(), peer.net.parameters(), strict=True):
                    slow.lerp_(fast, max(1 - MEMORY, 1 / steps))
        peer.net = average.eval()
        trained = time.process_time() - started
        started = time.process_time()
        with torch.no_grad():
            made = (
                np.concatenate([np.asarray(peer.draw(250)) for _ in range(n // 250)])
                .round()
                .astype("uint8")
            )
        drawn = time.process_time() - started
        line(
            peer.name,
            f"{trained:.0f}",
            f"{steps * batch:,}",
            f"{fid(judge.features(made), real):.1f}",
            f"{drawn:.0f}",
        )


def _step(peer, optimizer, x):
    optimizer.zero_grad()
    peer.loss(x).backward()
    optimizer.step()


def _rate(call, times=3):
    """Calls a CPU second."""
    call()
    started = time.process_time()
    for _ in range(times):
        call()
    return times / (time.process_time() - started)


if __name__ == "__main__":
    asked = dict(word.split("=", 1) for word in sys.argv[2:])
    {each.__name__: each for each in (speed, equal, told)}[sys.argv[1]](**asked)
