// Threads, seeds, generators, devices and what libtorch this is.
#include "addon.h"
#include "allocator.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <dlfcn.h>
#include <mutex>
#include <torch/version.h>

namespace tinyllava {

namespace {

napi_value threads(const Call& call) { return call.value(static_cast<double>(at::get_num_threads())); }

napi_value set_threads(const Call& call) {
  const auto count = call.integer(0);
  if (count < 1 || count > 4096) throw Misuse("expected 1 to 4096 threads");
  at::set_num_threads(static_cast<int>(count));
  return call.undefined();
}

napi_value manual_seed(const Call& call) {
  at::manual_seed(static_cast<uint64_t>(call.integer(0)));
  return call.undefined();
}

/// generator(seed, device): a handle of a new random stream.
napi_value generator(const Call& call) {
  const c10::Device device(call.absent(1) ? "cpu" : call.string(1));
  auto made = device.is_cpu() ? at::make_generator<at::CPUGeneratorImpl>() : at::globalContext().defaultGenerator(device).clone();
  made.set_current_seed(static_cast<uint64_t>(call.integer(0)));
  return call.value(call.addon.generators.put(std::move(made)));
}

napi_value free_generator(const Call& call) {
  call.addon.generators.free(call.number(0));
  return call.undefined();
}

napi_value generator_state(const Call& call) { return call.handle(call.addon.generators.get(call.number(0)).get_state()); }

napi_value set_generator_state(const Call& call) {
  call.addon.generators.get(call.number(0)).set_state(call.tensor(1));
  return call.undefined();
}

/// loadCuda(): loads libtorch_cuda.so from beside libtorch_cpu.so; true when a CUDA device can be used. It is loaded before
/// the first question, because libtorch remembers the answer.
napi_value load_cuda(const Call& call) {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&at::get_num_threads), &info) == 0) return call.value(false);
  std::string path = info.dli_fname;
  path = path.substr(0, path.rfind('/') + 1) + "libtorch_cuda.so";
  return call.value(dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) != nullptr && at::hasCUDA());
}

/// trimMemory(): gives what was freed back to the system.
napi_value trim_memory(const Call& call) {
  trim_freed_memory();
  return call.undefined();
}

napi_value version(const Call& call) { return call.value(std::string(TORCH_VERSION)); }
napi_value capability(const Call& call) { return call.value(at::get_cpu_capability()); }

/// keepFreedMemory(whether): from the first true until as many false, memory that is freed stays with the process for what comes next. Training makes
/// and frees the same tensors in every step, and a page that comes from the system is cleared first.
napi_value keep_freed(const Call& call) {
  static std::mutex mutex;
  static int64_t holders = 0;
  const std::lock_guard lock(mutex);
  const auto before = holders;
  holders = std::max<int64_t>(0, holders + (call.boolean(0) ? 1 : -1));
  if ((before > 0) == (holders > 0)) return call.undefined();
  keep_freed_memory(holders > 0);
  return call.undefined();
}

}  // namespace

const std::vector<Export> device_exports = {{"threads", threads},
                                            {"setThreads", set_threads},
                                            {"manualSeed", manual_seed},
                                            {"generator", generator},
                                            {"freeGenerator", free_generator},
                                            {"generatorState", generator_state},
                                            {"setGeneratorState", set_generator_state},
                                            {"loadCuda", load_cuda},
                                            {"trimMemory", trim_memory},
                                            {"keepFreedMemory", keep_freed},
                                            {"version", version},
                                            {"capability", capability}};

}  // namespace tinyllava
