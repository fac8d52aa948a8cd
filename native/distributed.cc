// Process groups of c10d: tensors summed, gathered and sent round between processes, and a watch over who is still there.
#define USE_C10D_GLOO

#include "value.h"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <c10/util/Logging.h>

#include <condition_variable>
#include <cstdlib>
#include <dlfcn.h>
#include <functional>
#include <mutex>
#include <netdb.h>
#include <optional>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

namespace tinyllava {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using Store = c10::intrusive_ptr<c10d::Store>;

std::vector<uint8_t> bytes(const std::string& text) { return {text.begin(), text.end()}; }
std::string text(const std::vector<uint8_t>& data) { return {data.begin(), data.end()}; }
std::string key(const char* what, int rank) { return std::string(what) + "/" + std::to_string(rank); }

/// The address by which this machine reaches the host: the one that others of its network reach it by.
std::string own_address(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) throw Misuse("the host " + host + " is not known");
  std::string own;
  for (auto* at = found; at && own.empty(); at = at->ai_next) {
    const int probe = ::socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
    if (probe < 0) continue;
    sockaddr_storage name{};
    socklen_t length = sizeof(name);
    char shown[NI_MAXHOST];
    // Nothing is sent: connecting such a socket only chooses the route.
    if (::connect(probe, at->ai_addr, at->ai_addrlen) == 0 && ::getsockname(probe, reinterpret_cast<sockaddr*>(&name), &length) == 0 &&
        ::getnameinfo(reinterpret_cast<sockaddr*>(&name), length, shown, sizeof(shown), nullptr, 0, NI_NUMERICHOST) == 0)
      own = shown;
    ::close(probe);
  }
  ::freeaddrinfo(found);
  if (own.empty()) throw Misuse("there is no route to " + host);
  return own;
}

/// NCCL's group where this was built with it, else nothing.
c10::intrusive_ptr<c10d::Backend> nccl(const Store& store, int rank, int size) {
  Dl_info info;
  if (::dladdr(reinterpret_cast<void*>(&nccl), &info) == 0) return {};
  std::string path = info.dli_fname;
  path = path.substr(0, path.rfind('/') + 1) + "tinyllava-nccl.so";
  if (::access(path.c_str(), R_OK) != 0) return {};
  auto* module = ::dlopen(path.c_str(), RTLD_NOW);
  auto* make = module ? reinterpret_cast<c10d::Backend* (*)(const Store&, int, int)>(::dlsym(module, "tinyllava_nccl")) : nullptr;
  if (!make) throw Misuse(::dlerror());
  return c10::intrusive_ptr<c10d::Backend>::reclaim(make(c10::make_intrusive<c10d::PrefixStore>("nccl", store), rank, size));
}

/// One rank of a job: the group that its collectives go through, and a thread that tells the others that it lives and finds out who does not.
class Group : public std::enable_shared_from_this<Group> {
 public:
  struct Settings {
    int rank;
    int size;
    std::string host;
    int port;
    bool server;
    milliseconds patience;  // for the others to come
    milliseconds silence;   // after which a rank is lost
    std::string attempt;    // what is said at the rendezvous is of one start of the job
    std::string terms;      // what has to be the same on all ranks
  };

  explicit Group(const Settings& settings) : settings_(settings) {
    store_ = connect(settings_.server);
    meet();
    auto options = c10d::ProcessGroupGloo::Options::create(std::chrono::hours(24 * 365));
    options->devices = {c10d::ProcessGroupGloo::createDeviceForHostname(own_address(settings_.host, settings_.port))};
    backend_ = c10::make_intrusive<c10d::ProcessGroupGloo>(store_, settings_.rank, settings_.size, options);
  }

  ~Group() {
    if (watcher_.joinable()) watcher_.detach();
    // Its threads wait for what will never come.
    if (!lost_) return;
    backend_.release();
    nccl_.release();
  }

  /// Begins to watch.
  void start() {
    watcher_ = std::thread([self = shared_from_this(), store = connect(false)] { self->watch(store); });
  }

  int rank() const { return settings_.rank; }
  int size() const { return settings_.size; }

  /// What moves a tensor: Gloo, and NCCL between GPUs.
  c10d::Backend& backend(const at::Tensor& tensor) {
    if (!tensor.is_cuda()) return *backend_;
    if (!nccl_) nccl_ = nccl(store_, settings_.rank, settings_.size);
    return nccl_ ? *nccl_ : *backend_;
  }

  bool is_nccl(const c10d::Backend& backend) const { return &backend == nccl_.get(); }

  /// Waits for a collective of NCCL, which itself would wait for a lost rank for ever.
  void wait_for_gpu(c10d::Work& work) {
    {
      std::unique_lock lock(mutex_);
      wait_until(lock, std::chrono::microseconds(50), [&] { return work.isCompleted(); });
      if (lost_) throw Misuse(*lost_);
    }
    work.wait();
  }

  /// Waits for a collective of Gloo. A rank that is lost ends the wait, with its name.
  void wait(c10d::Work& work) {
    const auto future = work.getFuture();
    future->addCallback([this](c10::ivalue::Future&) {
      { std::lock_guard lock(mutex_); }
      changed_.notify_all();
    });
    std::unique_lock lock(mutex_);
    wait_until(lock, kTick, [&] { return future->completed(); });
    if (!lost_ && future->hasError()) {
      // A connection that breaks says no more than that; the watch finds out whose it was.
      changed_.wait_for(lock, settings_.silence + milliseconds(5000), [&] { return lost_.has_value(); });
    }
    if (lost_) throw Misuse(*lost_);
    lock.unlock();
    work.wait();
  }

  /// Tells the others why this rank goes. The first to fail is the one that is named.
  void fail(const std::string& reason) {
    store_->compareSet("failed", {}, bytes(std::to_string(settings_.rank) + "\n" + reason));
  }

  /// Ends the watch. For calling when all ranks are done, with a barrier on either side.
  void close() {
    {
      std::lock_guard lock(mutex_);
      closing_ = true;
    }
    changed_.notify_all();
    if (!watcher_.joinable()) return;
    if (lost_) watcher_.detach();
    else watcher_.join();
  }

 private:
  /// Waits until something is so or a rank is lost; looks every tick, and when it is told to.
  template <typename Done>
  void wait_until(std::unique_lock<std::mutex>& lock, std::chrono::microseconds tick, Done done) {
    auto beats = beats_;
    auto silent = Clock::duration::zero();
    for (auto start = Clock::now(); !changed_.wait_for(lock, tick, [&] { return done() || lost_; }); start = Clock::now()) {
      // A network that is cut says nothing at all, also not to the thread that watches. A process that was stopped has not listened meanwhile.
      silent = beats == beats_ ? silent + std::min<Clock::duration>(Clock::now() - start, kTick) : Clock::duration::zero();
      beats = beats_;
      if (silent > settings_.silence) lost_ = unreachable();
    }
  }

  Store connect(bool server) const {
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(settings_.port);
    options.isServer = server;
    options.waitWorkers = false;
    options.timeout = settings_.patience;
    const auto start = Clock::now();
    try {
      return c10::make_intrusive<c10d::PrefixStore>(settings_.attempt, c10::make_intrusive<c10d::TCPStore>(settings_.host, options));
    } catch (const c10::Error& error) {
      if (std::string(error.what()).find("EADDRINUSE") != std::string::npos) throw Misuse("the port is taken");
      own_address(settings_.host, settings_.port);
      const auto waited = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - start).count();
      throw Misuse("no rendezvous has answered there for " + std::to_string(waited) + " s");
    }
  }

  /// Waits until every rank has said where it runs and on what terms. Throws where they are others.
  void meet() {
    char host[256] = "";
    ::gethostname(host, sizeof(host) - 1);
    const auto place_of = [](const std::string& said) { return said.substr(0, said.find('\n')); };
    const auto own = std::string(host) + ", process " + std::to_string(::getpid()) + "\n" + settings_.terms;
    const auto first = text(store_->compareSet(key("place", settings_.rank), {}, bytes(own)));
    if (first != own) throw Misuse("another process is rank " + std::to_string(settings_.rank) + " already: " + place_of(first));
    const auto end = Clock::now() + settings_.patience;
    for (int other = 0; other < settings_.size; ++other) {
      while (!store_->check({key("place", other)})) {
        if (Clock::now() > end) throw Misuse(missing());
        std::this_thread::sleep_for(milliseconds(50));
      }
      const auto said = text(store_->get(key("place", other)));
      places_.push_back(place_of(said));
      const auto terms = said.substr(places_.back().size() + 1);
      if (terms == settings_.terms) continue;
      // The others find it out too, while the rendezvous is there.
      std::this_thread::sleep_for(milliseconds(1000));
      throw Misuse(name(other) + " is of " + terms + ", and this rank of " + settings_.terms);
    }
  }

  std::string missing() const {
    std::string list;
    for (int rank = 0; rank < settings_.size; ++rank)
      if (!store_->check({key("place", rank)})) list += (list.empty() ? "" : ", ") + std::to_string(rank);
    return "of " + std::to_string(settings_.size) + " processes these ranks have not come: " + list;
  }

  std::string name(int rank) const { return "rank " + std::to_string(rank) + " (" + places_[static_cast<size_t>(rank)] + ")"; }

  std::string unreachable() const {
    return settings_.host + ":" + std::to_string(settings_.port) + ", where the ranks meet, no longer answers: " + name(0) +
           " is gone, or the network to it";
  }

  void lose(const std::string& why) {
    {
      std::lock_guard lock(mutex_);
      lost_ = why;
    }
    changed_.notify_all();
  }

  /// Ends the waits of a rank that serves the rendezvous when the others have found out the same: with it they would lose the name of who is gone.
  void lose_with_others(const std::string& why) {
    if (settings_.server) std::this_thread::sleep_for(milliseconds(1500));
    lose(why);
  }

  void watch(const Store& store) {
    struct Pulse {
      int64_t count = -1;
      Clock::time_point seen = Clock::now();
    };
    std::vector<Pulse> pulses(static_cast<size_t>(settings_.size));
    auto answered = Clock::now();
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        if (changed_.wait_for(lock, milliseconds(500), [&] { return closing_; })) return;
      }
      try {
        store->add(key("pulse", settings_.rank), 1);
        if (store->check({"failed"})) {
          const auto said = text(store->get("failed"));
          const auto line = said.find('\n');
          const int rank = std::stoi(said.substr(0, line));
          // The one that failed knows better what happened.
          if (rank != settings_.rank) return lose_with_others(name(rank) + " failed: " + said.substr(line + 1));
          continue;
        }
        for (int rank = 0; rank < settings_.size; ++rank) {
          auto& pulse = pulses[static_cast<size_t>(rank)];
          const auto count = rank == settings_.rank ? pulse.count + 1 : store->add(key("pulse", rank), 0);
          if (count != pulse.count) pulse = {count, Clock::now()};
          // Silence of this process itself, when it was stopped and goes on, is nobody else's.
          else if (Clock::now() - pulse.seen > settings_.silence && Clock::now() - answered < settings_.silence / 2)
            return lose_with_others(name(rank) + " no longer answers");
        }
        answered = Clock::now();
        std::lock_guard lock(mutex_);
        ++beats_;
      } catch (const std::exception&) {
        return lose(unreachable());
      }
    }
  }

  static constexpr milliseconds kTick{500};

  const Settings settings_;
  Store store_;
  std::vector<std::string> places_;
  c10::intrusive_ptr<c10d::Backend> backend_;
  c10::intrusive_ptr<c10d::Backend> nccl_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool closing_ = false;
  int64_t beats_ = 0;  // rounds of the watch
  std::optional<std::string> lost_;
  std::thread watcher_;
};

/// A collective on its way, and what is left to do when it is there.
struct Flight {
  std::shared_ptr<Group> group;
  bool on_gpu;
  c10::intrusive_ptr<c10d::Work> work;
  std::function<void()> finish;
};

std::shared_ptr<Group> group(const Call& call, size_t i) { return std::static_pointer_cast<Group>(call.addon.groups.get(call.number(i))); }

napi_value fly(const Call& call, std::shared_ptr<Group> group, const c10d::Backend& backend, c10::intrusive_ptr<c10d::Work> work,
               std::function<void()> finish = nullptr) {
  const bool on_gpu = group->is_nccl(backend);
  auto flight = std::make_shared<Flight>(Flight{std::move(group), on_gpu, std::move(work), std::move(finish)});
  return call.value(call.addon.flights.put(std::move(flight)));
}

/// group(rank, size, host, port, whether it serves the rendezvous, patience in ms, silence in ms, attempt, terms): joins the others; waits until all
/// are there.
napi_value make_group(const Call& call) {
  // What c10d warns of, such as addresses without a name, is no trouble, and what is comes as an exception; it logs that, too, with its C++ stack.
  ::setenv("TORCH_CPP_LOG_LEVEL", "FATAL", /*overwrite=*/0);
  c10::initLogging();
  Group::Settings settings{static_cast<int>(call.integer(0)), static_cast<int>(call.integer(1)), call.string(2), static_cast<int>(call.integer(3)),
                           call.boolean(4), milliseconds(call.integer(5)), milliseconds(call.integer(6)), call.string(7), call.string(8)};
  auto group = std::make_shared<Group>(settings);
  group->start();
  // The watch keeps the group too, so that it can outlast a network that hangs; what JavaScript lets go of ends the watch.
  return call.value(call.addon.groups.put(std::shared_ptr<void>(group.get(), [group](void*) { group->close(); })));
}

/// allReduce(group, tensor): sums it over all ranks, in place. Gives a flight, as all collectives do.
napi_value all_reduce(const Call& call) {
  auto ours = group(call, 0);
  std::vector<at::Tensor> tensors{call.tensor(1).detach()};
  auto& backend = ours->backend(tensors[0]);
  return fly(call, ours, backend, backend.allreduce(tensors));
}

/// broadcast(group, tensor, from): makes it what it is on that rank, in place.
napi_value broadcast(const Call& call) {
  auto ours = group(call, 0);
  std::vector<at::Tensor> tensors{call.tensor(1).detach()};
  c10d::BroadcastOptions options;
  options.rootRank = call.integer(2);
  auto& backend = ours->backend(tensors[0]);
  return fly(call, ours, backend, backend.broadcast(tensors, options));
}

/// allGather(group, into, tensor): what all ranks have, one behind the other, into a tensor that is as large as all of them.
napi_value all_gather(const Call& call) {
  auto ours = group(call, 0);
  // Backends know no int16, and move the bytes of whatever is as wide.
  const auto moved = [](const at::Tensor& x) { return x.scalar_type() == at::kShort ? x.view(at::kBFloat16) : x; };
  auto into = moved(call.tensor(1).detach());
  auto tensor = moved(call.tensor(2).detach());
  auto& backend = ours->backend(tensor);
  return fly(call, ours, backend, backend._allgather_base(into, tensor));
}

/// reduceScatter(group, into, tensor): the sum over all ranks, of which this rank gets its own equal part.
napi_value reduce_scatter(const Call& call) {
  auto ours = group(call, 0);
  auto into = call.tensor(1).detach();
  auto tensor = call.tensor(2).detach();
  auto& backend = ours->backend(tensor);
  if (ours->is_nccl(backend)) return fly(call, ours, backend, backend._reduce_scatter_base(into, tensor));
  // Gloo itself sums everything everywhere. So every part goes where it belongs, and is summed there: half of the traffic.
  auto parts = at::empty_like(tensor);
  std::vector<int64_t> even;
  auto work = backend.alltoall_base(parts, tensor, even, even);
  return fly(call, ours, backend, work, [into, parts, tensor, size = ours->size()] {
    auto sum = into.flatten();
    at::sum_out(sum, parts.view({size, -1}), 0);
  });
}

/// land(flight): waits until the collective is done; the flight is then over.
napi_value land(const Call& call) {
  const auto flight = std::static_pointer_cast<Flight>(call.addon.flights.get(call.number(0)));
  call.addon.flights.free(call.number(0));
  if (flight->on_gpu) flight->group->wait_for_gpu(*flight->work);
  else flight->group->wait(*flight->work);
  if (flight->finish) flight->finish();
  return call.undefined();
}

napi_value fail_group(const Call& call) {
  group(call, 0)->fail(call.string(1));
  return call.undefined();
}

napi_value close_group(const Call& call) {
  group(call, 0)->close();
  call.addon.groups.free(call.number(0));
  return call.undefined();
}

}  // namespace

const std::vector<Export> distributed_exports = {{"group", make_group},          {"allReduce", all_reduce},   {"broadcast", broadcast},
                                                 {"allGather", all_gather},      {"reduceScatter", reduce_scatter},
                                                 {"land", land},                 {"failGroup", fail_group},   {"closeGroup", close_group}};

}  // namespace tinyllava
