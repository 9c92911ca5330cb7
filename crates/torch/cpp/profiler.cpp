// What libtorch's profiler is told and asked.
#include "guard.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <cstdlib>
#include <memory>
#include <set>
#include <utility>

using palimpsest::guarded;
using torch::profiler::impl::ActivityType;

extern "C" {

// Begins a named range, if anything listens to ranges; else `range` stays null. It has to be ended on the same thread.
char* palimpsest_range_begin(const char* name, void** range) {
  return guarded([&] {
    auto callbacks = at::getStepCallbacksUnlessEmpty(at::RecordScope::USER_SCOPE);
    if (!callbacks.has_value()) return;
    auto begun = std::make_unique<at::RecordFunction>(std::move(*callbacks));
    begun->before(name);
    *range = begun.release();
  });
}

void palimpsest_range_end(void* range) { delete static_cast<at::RecordFunction*>(range); }

// Begins to record every operator of every thread, with its shapes, and on CUDA every kernel.
char* palimpsest_profiler_begin(bool cuda) {
  return guarded([&] {
    torch::profiler::impl::ExperimentalConfig all_threads;
    all_threads.profile_all_threads = true;
    torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO, /*report_input_shapes=*/true,
                                                 /*profile_memory=*/true, /*with_stack=*/false, /*with_flops=*/false,
                                                 /*with_modules=*/false, all_threads);
    std::set<ActivityType> activities{ActivityType::CPU};
    if (cuda) {
      activities.insert(ActivityType::CUDA);
    } else {
      // Kineto takes it for an error that there is no GPU, and says so on standard error.
      setenv("KINETO_LOG_LEVEL", "99", /*overwrite=*/0);
    }
    torch::autograd::profiler::prepareProfiler(config, activities);
    torch::autograd::profiler::enableProfiler(config, activities,
                                              {at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION,
                                               at::RecordScope::USER_SCOPE});
  });
}

// Ends the recording, and writes it as a Chrome trace unless `path` is null.
char* palimpsest_profiler_end(const char* path) {
  return guarded([&] {
    auto result = torch::autograd::profiler::disableProfiler();
    if (path != nullptr) result->save(path);
  });
}

}  // extern "C"
