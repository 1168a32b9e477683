"""Persistent kernels on a machine without a GPU: the same source, compiled by the host's C++ compiler, its threads as fibers."""

import ctypes
import hashlib
import itertools
import subprocess
from pathlib import Path

from gridc.cuda.launching import Kernels
from gridc.cuda.tiles import Card

BEHIND = """
static void (*body)();
static bool done;
static void start() { body(); done = true; others(); }
static Args given_args;
extern "C" int run(int blocks, int threads, int shared, void** parameters) {
  given_args = *(Args*)parameters[0];
  body = [] { NAME(given_args); };
  const int size = 1 << 16;
  std::vector<ucontext_t> fibers(blocks * threads);
  std::vector<char*> stacks(blocks * threads);
  std::vector<char> over(blocks * threads, 0);
  memories.assign(blocks, nullptr);
  waits.assign(blocks, Wait());
  for (auto& m : memories) { m = (float4*)aligned_alloc(16, (shared + 15) / 16 * 16 + 16); memset((void*)m, 255, shared); }
  blockDim.x = threads; gridDim.x = blocks;
  for (int i = 0; i < blocks * threads; i++) {
    getcontext(&fibers[i]);
    stacks[i] = (char*)malloc(size);
    fibers[i].uc_stack.ss_sp = stacks[i]; fibers[i].uc_stack.ss_size = size; fibers[i].uc_link = nullptr;
    makecontext(&fibers[i], start, 0);
  }
  for (int left = blocks * threads; left > 0;)
    for (int n = 0; n < blocks * threads; n++) {
      const int block = REVERSED ? blocks - 1 - n / threads : n / threads;
      const int thread = REVERSED && n % threads ? threads - n % threads : n % threads;  // the first one stays the first
      const int i = block * threads + thread;
      if (over[i]) continue;
      blockIdx.x = block; threadIdx.x = thread; here = &fibers[i]; done = false;
      swapcontext(&scheduler, here);
      if (done) { over[i] = 1; left--; }
    }
  for (auto& m : memories) free(m);
  for (auto& s : stacks) free(s);
  return 0;
}
"""
ALWAYS = """
#include <mutex>
static std::mutex alone;  // devices that a processor stands for run at the same time
extern "C" long launch(
    long (*run)(int, int, int, void**), long gx, long, long, long bx, long, long, long shared, void*, void** p) {
  std::lock_guard<std::mutex> mine(alone);
  return run((int)gx, (int)bx, (int)shared, p);
}
extern "C" long clear(unsigned* to, long value, long count, void*) { for (long i = 0; i < count; i++) to[i] = value; return 0; }
"""


class Host:
    """Compiles kernels for the processor; ``backwards`` runs blocks and threads in the other order."""

    platform = "cpu"
    streams = False

    def __init__(self, folder: Path, card: Card, backwards: bool = False):
        self.folder, self.card, self.backwards = folder, card, backwards
        self.name = f"host_{next(NUMBERS)}"
        self.built = []
        always = self._library("always", ALWAYS)
        self.launch, self.clear = (ctypes.cast(getattr(always, name), ctypes.c_void_p).value for name in ("launch", "clear"))

    def _library(self, name, text):
        path = self.folder / f"{name}.so"
        source = path.with_suffix(".cpp")
        source.write_text(text)
        subprocess.run(["g++", "-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-o", path, source], check=True)
        return ctypes.CDLL(str(path))

    def build(self, kernel, name):
        head = Path(__file__).with_name("cuda_on_host.h").read_text()
        behind = BEHIND.replace("NAME", name).replace("REVERSED", str(self.backwards).lower())
        text = head + kernel.text + behind
        library = self._library(hashlib.sha256(text.encode()).hexdigest()[:16], text)
        self.built.append((name, kernel))
        return ctypes.cast(library.run, ctypes.c_void_p).value


NUMBERS = itertools.count()
SMALL = Card(blocks=3, shared=1 << 16, architecture="host", threads=64)


def kernels(folder, card=SMALL, backwards=False):
    """Give what takes the place of a GPU's kernels."""
    return Kernels(Host(folder, card, backwards))
