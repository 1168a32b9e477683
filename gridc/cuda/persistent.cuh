// One kernel for a whole sweep: its blocks stay on the card, keep their part of the weights in shared memory, and meet after
// every step of a turn.  What is generated for a plan (gridc/cuda/source.py) says what a step reads, computes and writes;
// here is how.  float32; 16 bytes at a time where widths allow it.

#ifndef GRIDC_PRIMITIVES  // what a machine without a GPU has of its own, to try this there
#define GRIDC_PRIMITIVES
#define DEVICE __device__ __forceinline__
#define KERNEL extern "C" __global__ void
#define SHARED(name) extern __shared__ float4 name[]

// What another block wrote lies in the second level of the cache; the first is not coherent.
DEVICE float fetch(const float* from) { return __ldcg(from); }
DEVICE void put(float* to, float value) { __stcg(to, value); }
DEVICE int look(const int* from) { return __ldg(from); }
DEVICE float given(const float* from) { return __ldg(from); }
DEVICE void soon(const int* from) { asm volatile("prefetch.global.L1 [%0];" ::"l"(from)); }

DEVICE void copy16(float* to, const float* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from) : "memory");
}
DEVICE void copied() { asm volatile("cp.async.wait_all;" ::: "memory"); }
DEVICE void sync() { __syncthreads(); }
DEVICE float over(float x, float y) { return __fdividef(x, y); }

// All blocks are on the card at once: the launch is a cooperative one.
DEVICE void meet(unsigned* arrived, unsigned& goal) {
  __syncthreads();
  if (threadIdx.x == 0) {
    goal += gridDim.x;
    unsigned seen;
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(arrived) : "memory");
    do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(arrived) : "memory");
    while (seen < goal);
  }
  __syncthreads();
}
#endif

#define F(x) ((float)(x))
DEVICE float sigmoid(float x) { return over(1.0f, 1.0f + expf(-x)); }
DEVICE float relu(float x) { return x > 0.0f ? x : 0.0f; }
DEVICE float softplus(float x) { return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))); }

// Copies an array of numbers, by all threads of all blocks.
DEVICE void lay(float* to, const float* from, long long count) {
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (long long)gridDim.x * blockDim.x)
    put(to + i, given(from + i));
}
DEVICE void clear(float* to, long long count) {
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (long long)gridDim.x * blockDim.x)
    put(to + i, 0.0f);
}

// A product and what follows from it, over the rows of a turn.  A block has the weights of UT units (or groups of columns), of
// one slot, and takes tiles of RT rows, which a warp each reads; a thread sums TR rows × GP columns over one of KS ranges of the
// inputs, and the KS sums are added up in shared memory.  Step gives
//   K, KP, GP, UT, RT, TR, KS      sizes: inputs, their stride, columns of a unit, …
//   ROWS, SLOTS, UNITS, PARTS      rows of a slot, slots, groups of units, blocks that share one's rows
//   OFFSET, RESIDENT               first row of the phase, and whether the weights stay
//   weight(args, which, k, unit, column), which(args, turn, slot), read(args, to, row, lane), soon(args, row)
//   Early, early(args, row, unit, kept), finish(args, row, which, unit, sums, kept)
template <class Step>
struct Product {
  static constexpr int FOURS = (Step::K + 3) / 4, K4 = 4 * FOURS, PAIRS = Step::SLOTS * Step::UNITS;
  static constexpr int TILES = (Step::ROWS + Step::RT - 1) / Step::RT, SIZE = Step::SLOTS * Step::ROWS, GP = Step::GP;
  static constexpr int EVERY = Step::RT / Step::TR, LANES = EVERY * Step::UT, SUMS = Step::RT * Step::UT;
  static constexpr int RANGE = (FOURS + Step::KS - 1) / Step::KS;

  template <class Args>
  static DEVICE void weights(const Args& args, float* w, int which, int units) {
    for (int i = threadIdx.x; i < K4 * Step::UT * GP; i += blockDim.x) {
      const int column = i % GP, unit = i / GP % Step::UT, k = i / (GP * Step::UT);
      w[i] = k < Step::K ? Step::weight(args, which, k, units * Step::UT + unit, column) : 0.0f;
    }
  }

  // What stays for a phase: the weights of this block's part.
  template <class Args>
  static DEVICE void begin(const Args& args, float* w) {
    if (Step::RESIDENT && blockIdx.x < PAIRS * Step::PARTS) {
      const int pair = blockIdx.x % PAIRS;
      weights(args, w, Step::which(args, 0, pair / Step::UNITS), pair % Step::UNITS);
    }
  }

  template <class Args>
  static DEVICE void run(const Args& args, float* w, float* z, int turn, int next) {
    for (int p = blockIdx.x; p < PAIRS * Step::PARTS; p += gridDim.x) {
      const int pair = p % PAIRS, slot = pair / Step::UNITS, units = pair % Step::UNITS;
      const int which = Step::which(args, turn, slot), first = Step::OFFSET + turn * SIZE + slot * Step::ROWS;
      if (p != blockIdx.x) sync();  // nobody reads the weights and rows before any more
      if (!Step::RESIDENT) {
        weights(args, w, which, units);
        sync();
      }
      for (int tile = p / PAIRS; tile < TILES; tile += Step::PARTS) {
        if (tile != p / PAIRS) sync();
        rows(args, w, z, first, tile * Step::RT, which, units);
      }
      for (int i = threadIdx.x; i < Step::RT; i += blockDim.x) Step::soon(args, first + next * SIZE + p / PAIRS * Step::RT + i);
    }
  }

  // The rows of a tile, each by the lanes of a warp.
  template <class Args>
  static DEVICE void read(const Args& args, float* z, int first, int from) {
    const int lane = threadIdx.x % 32;
    for (int row = threadIdx.x / 32; row < Step::RT; row += blockDim.x / 32) {
      float* to = z + row * Step::KP;
      if (from + row < Step::ROWS) {
        Step::read(args, to, first + from + row, lane);
        if (lane < K4 - Step::K) to[Step::K + lane] = 0.0f;
      } else {
        for (int k = lane; k < K4; k += 32) to[k] = 0.0f;
      }
    }
  }

  static DEVICE void multiply(const float* zr, const float* wu, int low, int high, float (&sums)[Step::TR][GP]) {
#pragma unroll 2
    for (int k = low * 4; k < high * 4; k += 4) {
      float4 seen[Step::TR];
#pragma unroll
      for (int r = 0; r < Step::TR; r++) seen[r] = *(const float4*)(zr + r * EVERY * Step::KP + k);
#pragma unroll
      for (int j = 0; j < 4; j++) {
        float weight[GP];
        move(weight, wu + (k + j) * (Step::UT * GP));
#pragma unroll
        for (int r = 0; r < Step::TR; r++) {
          const float x = j == 0 ? seen[r].x : j == 1 ? seen[r].y : j == 2 ? seen[r].z : seen[r].w;
#pragma unroll
          for (int g = 0; g < GP; g++) sums[r][g] = fmaf(x, weight[g], sums[r][g]);
        }
      }
    }
  }

  // GP numbers, by fours where that many are a multiple.
  static DEVICE void move(float* to, const float* from) {
    if constexpr (GP % 4 == 0) {
#pragma unroll
      for (int g = 0; g < GP; g += 4) *(float4*)(to + g) = *(const float4*)(from + g);
    } else {
#pragma unroll
      for (int g = 0; g < GP; g++) to[g] = from[g];
    }
  }

  template <class Args>
  static DEVICE void rows(const Args& args, const float* w, float* z, int first, int from, int which, int units) {
    const int group = threadIdx.x / LANES, lane = threadIdx.x % LANES, unit = lane % Step::UT, row = lane / Step::UT;
    const int low = group * RANGE, high = low + RANGE < FOURS ? low + RANGE : FOURS;
    const bool sums_some = group < Step::KS && low < FOURS;
    read(args, z, first, from);
    constexpr int MINE = (SUMS + Step::THREADS - 1) / Step::THREADS;
    typename Step::Early early[MINE];
#pragma unroll
    for (int e = 0; e < MINE; e++) {
      const int i = threadIdx.x + e * Step::THREADS, r = from + i / Step::UT, u = units * Step::UT + i % Step::UT;
      if (i < SUMS && r < Step::ROWS && u < Step::ALL) Step::early(args, first + r, u, early[e]);
    }
    copied();
    sync();
    alignas(16) float sums[Step::TR][GP];
#pragma unroll
    for (int r = 0; r < Step::TR; r++)
#pragma unroll
      for (int g = 0; g < GP; g++) sums[r][g] = 0.0f;
    if (sums_some) multiply(z + row * Step::KP, w + unit * GP, low, high, sums);
    sync();  // the sums take the place of the rows
    if (group < Step::KS) {
#pragma unroll
      for (int r = 0; r < Step::TR; r++) move(z + (group * SUMS + (row + r * EVERY) * Step::UT + unit) * GP, sums[r]);
    }
    sync();
#pragma unroll
    for (int e = 0; e < MINE; e++) {
      const int i = threadIdx.x + e * Step::THREADS, r = from + i / Step::UT, u = units * Step::UT + i % Step::UT;
      if (i < SUMS && r < Step::ROWS && u < Step::ALL) {
        alignas(16) float total[GP], more[GP];
        move(total, z + i * GP);
#pragma unroll 4
        for (int k = 1; k < Step::KS; k++) {
          move(more, z + (k * SUMS + i) * GP);
#pragma unroll
          for (int g = 0; g < GP; g++) total[g] += more[g];
        }
        Step::finish(args, first + r, which, u, total, early[e]);
      }
    }
  }
};

// A step over every unit of every row of a turn, each by itself: Step gives SIZE, OFFSET, UNITS, each(args, row, unit), soon(args, row).
template <class Step>
struct Each {
  template <class Args>
  static DEVICE void run(const Args& args, int turn, int next) {
    const int first = Step::OFFSET + turn * Step::SIZE;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < Step::SIZE * Step::UNITS; i += gridDim.x * blockDim.x) {
      const int row = first + i / Step::UNITS;
      Step::each(args, row, i % Step::UNITS);
      if (i % Step::UNITS % 32 == 0) Step::soon(args, row + next * Step::SIZE);
    }
  }
};
