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
DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
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
// one slot, and takes tiles of RT rows; a thread sums TR rows × GP columns over every KS-th piece of four inputs, and the KS sums
// are added up in shared memory.  Step gives
//   K, KP, GP, UT, RT, TR, KS      sizes: inputs, their stride, columns of a unit, …
//   ROWS, SLOTS, UNITS, PARTS      rows of a slot, slots, groups of units, blocks that share one's rows
//   OFFSET, RESIDENT, PIECE        first row of the phase, whether the weights stay, numbers that are copied at once
//   weight(args, which, k, unit, column), which(args, turn, slot), piece(args, to, row, k), soon(args, row)
//   Early, early(args, row, unit, kept), finish(args, row, which, unit, sums, kept)
template <class Step>
struct Product {
  static constexpr int K4 = (Step::K + 3) / 4 * 4, PAIRS = Step::SLOTS * Step::UNITS, TILES = (Step::ROWS + Step::RT - 1) / Step::RT;
  static constexpr int EVERY = Step::RT / Step::TR, LANES = EVERY * Step::UT, SUMS = Step::RT * Step::UT;
  static constexpr int SIZE = Step::SLOTS * Step::ROWS;

  template <class Args>
  static DEVICE void weights(const Args& args, float* w, int which, int units) {
    for (int i = threadIdx.x; i < K4 * Step::UT * Step::GP; i += blockDim.x) {
      const int column = i % Step::GP, unit = i / Step::GP % Step::UT, k = i / (Step::GP * Step::UT);
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
      if (!Step::RESIDENT) {
        weights(args, w, which, units);
        sync();
      }
      for (int tile = p / PAIRS; tile < TILES; tile += Step::PARTS)
        rows(args, w, z, first, tile * Step::RT, which, units);
      for (int i = threadIdx.x; i < Step::RT; i += blockDim.x) Step::soon(args, first + next * SIZE + p / PAIRS * Step::RT + i);
    }
  }

  template <class Args>
  static DEVICE void rows(const Args& args, const float* w, float* z, int first, int from, int which, int units) {
    for (int i = threadIdx.x; i < Step::RT * (K4 / Step::PIECE); i += blockDim.x) {
      const int row = i / (K4 / Step::PIECE), k = i % (K4 / Step::PIECE) * Step::PIECE;
      float* to = z + row * Step::KP + k;
      if (from + row < Step::ROWS && k < Step::K)
        Step::piece(args, to, first + from + row, k);
      else
        for (int j = 0; j < Step::PIECE; j++) to[j] = 0.0f;
    }
    constexpr int MINE = (SUMS + Step::THREADS - 1) / Step::THREADS;
    typename Step::Early early[MINE];
#pragma unroll
    for (int e = 0; e < MINE; e++) {
      const int i = threadIdx.x + e * Step::THREADS, row = from + i / Step::UT, unit = units * Step::UT + i % Step::UT;
      if (i < SUMS && row < Step::ROWS && unit < Step::ALL) Step::early(args, first + row, unit, early[e]);
    }
    copied();
    sync();
    float sums[Step::TR][Step::GP];
    const int group = threadIdx.x / LANES, lane = threadIdx.x % LANES, unit = lane % Step::UT, row = lane / Step::UT;
    if (group < Step::KS) {
#pragma unroll
      for (int r = 0; r < Step::TR; r++)
#pragma unroll
        for (int g = 0; g < Step::GP; g++) sums[r][g] = 0.0f;
      const float *zr = z + row * Step::KP, *wu = w + unit * Step::GP;
#pragma unroll 2
      for (int k = group * 4; k < K4; k += Step::KS * 4) {
        float4 read[Step::TR];
#pragma unroll
        for (int r = 0; r < Step::TR; r++) read[r] = *(const float4*)(zr + r * EVERY * Step::KP + k);
#pragma unroll
        for (int j = 0; j < 4; j++) {
          float weight[Step::GP];
          const float* from_w = wu + (k + j) * (Step::UT * Step::GP);
          if constexpr (Step::GP % 4 == 0) {
#pragma unroll
            for (int g = 0; g < Step::GP; g += 4) *(float4*)(weight + g) = *(const float4*)(from_w + g);
          } else {
#pragma unroll
            for (int g = 0; g < Step::GP; g++) weight[g] = from_w[g];
          }
#pragma unroll
          for (int r = 0; r < Step::TR; r++) {
            const float x = j == 0 ? read[r].x : j == 1 ? read[r].y : j == 2 ? read[r].z : read[r].w;
#pragma unroll
            for (int g = 0; g < Step::GP; g++) sums[r][g] = fmaf(x, weight[g], sums[r][g]);
          }
        }
      }
    }
    sync();  // the sums take the place of the rows
    if (group < Step::KS) {
#pragma unroll
      for (int r = 0; r < Step::TR; r++)
#pragma unroll
        for (int g = 0; g < Step::GP; g++)
          z[(group * SUMS + (row + r * EVERY) * Step::UT + unit) * Step::GP + g] = sums[r][g];
    }
    sync();
#pragma unroll
    for (int e = 0; e < MINE; e++) {
      const int i = threadIdx.x + e * Step::THREADS, r = from + i / Step::UT, u = units * Step::UT + i % Step::UT;
      if (i < SUMS && r < Step::ROWS && u < Step::ALL) {
        float total[Step::GP];
#pragma unroll
        for (int g = 0; g < Step::GP; g++) total[g] = z[i * Step::GP + g];
        for (int k = 1; k < Step::KS; k++)
#pragma unroll
          for (int g = 0; g < Step::GP; g++) total[g] += z[(k * SUMS + i) * Step::GP + g];
        Step::finish(args, first + r, which, u, total, early[e]);
      }
    }
    sync();
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
