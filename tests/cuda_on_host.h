// A GPU's threads as fibers of one thread of the host: between two meetings each of them runs alone, in an order that can be reversed.
#include <ucontext.h>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>
#define GRIDC_PRIMITIVES
#define DEVICE inline
#define KERNEL extern "C" void
#define SHARED(name) float4* name = memories[blockIdx.x]
#define __launch_bounds__(...)
struct alignas(16) float4 { float x, y, z, w; };
struct Place { int x; };
static Place threadIdx, blockIdx, blockDim, gridDim;
static std::vector<float4*> memories;
static ucontext_t scheduler;
static ucontext_t* here;

inline void sync() { swapcontext(here, &scheduler); }
inline float fetch(const float* from) { return *from; }
inline void put(float* to, float value) { *to = value; }
inline int look(const int* from) { return *from; }
inline float given(const float* from) { return *from; }
inline void soon(const int* from) { volatile int seen = *from; (void)seen; }
inline void copy16(float* to, const float* from) {
  if ((size_t)from % 16 || (size_t)to % 16) abort();
  memcpy(to, from, 16);
}
inline void copied() {}
inline void meet(unsigned* arrived, unsigned& goal) {
  goal += gridDim.x;
  sync();
  if (threadIdx.x == 0) ++*arrived;
  sync();
  while (*arrived < goal) sync();
}
