// What the process runs on: threads, determinism, instruction set, memory.
#include "guard.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/record_function.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <torch/headeronly/version.h>

#include <atomic>
#include <memory>

using palimpsest::guarded;

extern "C" {

void palimpsest_free_string(char* text) { free(text); }

void palimpsest_free_tensor(at::Tensor* tensor) { delete tensor; }

const char* palimpsest_version() { return TORCH_VERSION; }

char* palimpsest_cpu_capability(char** name) {
  return guarded([&] { *name = strdup(at::get_cpu_capability().c_str()); });
}

int palimpsest_threads() { return at::get_num_threads(); }

char* palimpsest_set_threads(int threads) {
  return guarded([&] { at::set_num_threads(threads); });
}

char* palimpsest_set_deterministic(bool deterministic) {
  return guarded([&] {
    at::globalContext().setDeterministicAlgorithms(deterministic, /*warn_only=*/false);
    at::globalContext().setDeterministicFillUninitializedMemory(false);
    at::globalContext().setBenchmarkCuDNN(false);
  });
}

// Begins to count the operators that pass libtorch's dispatcher, those that others call included, as its profiler sees
// them; or ends it and gives their number.
char* palimpsest_count_operators(bool begin, uint64_t* count) {
  return guarded([&] {
    static std::atomic<uint64_t> counted{0};
    static at::CallbackHandle handle = at::INVALID_CALLBACK_HANDLE;
    if (begin) {
      TORCH_CHECK(handle == at::INVALID_CALLBACK_HANDLE, "operators are being counted already");
      counted = 0;
      handle = at::addGlobalCallback(at::RecordFunctionCallback([](const at::RecordFunction&)
                                                                    -> std::unique_ptr<at::ObserverContext> {
                                       counted.fetch_add(1, std::memory_order_relaxed);
                                       return nullptr;
                                     }).scopes({at::RecordScope::FUNCTION}));
    } else {
      TORCH_CHECK(handle != at::INVALID_CALLBACK_HANDLE, "operators are not being counted");
      at::removeCallback(handle);
      handle = at::INVALID_CALLBACK_HANDLE;
    }
    *count = counted;
  });
}

// Figures of the caching allocator of accelerator `index`, in bytes.
char* palimpsest_device_memory(int device_type, int index, int64_t* allocated, int64_t* peak, int64_t* reserved) {
  return guarded([&] {
    auto* allocator = at::getDeviceAllocator(static_cast<c10::DeviceType>(device_type));
    auto stats = allocator->getDeviceStats(static_cast<c10::DeviceIndex>(index));
    constexpr auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    *allocated = stats.allocated_bytes[all].current;
    *peak = stats.allocated_bytes[all].peak;
    *reserved = stats.reserved_bytes[all].current;
  });
}

char* palimpsest_reset_device_peak(int device_type, int index) {
  return guarded([&] {
    auto* allocator = at::getDeviceAllocator(static_cast<c10::DeviceType>(device_type));
    allocator->resetPeakStats(static_cast<c10::DeviceIndex>(index));
  });
}

}  // extern "C"
