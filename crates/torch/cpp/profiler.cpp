// What libtorch's profiler is told and asked.
#include "guard.h"

#include <ATen/record_function.h>

#include <memory>
#include <utility>

using palimpsest::guarded;

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

}  // extern "C"
