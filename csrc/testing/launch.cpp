#include "launch.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>
#include <numeric>
#include <utility>

#include "shared_segment.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace host_executor {
namespace {

// A kernel of the test suite needs some thousand switches; one that spins needs them all.
constexpr long kMostSwitches = 20'000'000;
constexpr std::uint16_t kMostEpochs = 0x7FFF;

Launch* active = nullptr;

std::string describe(const Site& site) {
  const std::string path = site.file_name();
  return path.substr(path.rfind('/') + 1) + ":" + std::to_string(site.line());
}

bool same_site(const Site& a, const Site& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         std::strcmp(a.file_name(), b.file_name()) == 0;
}

unsigned volume(const dim3& size) { return size.x * size.y * size.z; }

uint3 unravel(unsigned rank, const dim3& size) {
  return {rank % size.x, rank / size.x % size.y, rank / size.x / size.y};
}

}  // namespace

Launch* active_launch() { return active; }

std::string place(const void* code) {
  Dl_info info;
  if (dladdr(code, &info) == 0) return "";
  char text[32];
  // One byte back: a return address may belong to the next line.
  std::snprintf(text, sizeof(text), " [+0x%zx]",
                static_cast<const char*>(code) - static_cast<const char*>(info.dli_fbase) - 1);
  return text;
}

Stack::Stack() {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void* memory = mmap(nullptr, page + kSize, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, page, PROT_NONE);
  begin_ = static_cast<char*>(memory) + page;
}

Stack::~Stack() {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  munmap(begin_ - page, page + kSize);
}

Launch::Launch(const LaunchShape& shape, void (*entry)(const void*), const void* call,
               std::size_t bytes, std::vector<Region>& tensors, std::uint64_t seed)
    : shape_(shape),
      entry_(entry),
      call_(call),
      threads_per_block_(volume(shape.block)),
      tensors_(tensors),
      parameters_(constant_region("the kernel's parameters", call, bytes)),
      random_(seed) {
  fences_.of_thread.resize(std::size_t{volume(shape.grid)} * threads_per_block_);
  fences_.epoch_of_block.resize(volume(shape.grid));
  for (Region& tensor : tensors_) forget_accesses(tensor);
}

// Blocks run one after the other in a random order, or all at once where they can wait for each
// other.
std::optional<std::string> Launch::run() {
  std::vector<unsigned> pending(volume(shape_.grid));
  std::iota(pending.begin(), pending.end(), 0u);
  std::shuffle(pending.begin(), pending.end(), random_);
  long switches = 0;
  while (!error_) {
    if (resident_.empty() && pending.empty()) break;
    while (!pending.empty() && (shape_.cooperative || resident_.empty())) {
      admit(pending.back());
      pending.pop_back();
    }
    if (ready_.empty()) {
      error_ = describe_waiting();
    } else if (++switches > kMostSwitches) {
      error_ = "no progress: " + std::to_string(kMostSwitches) + " switches and still running";
    } else {
      std::swap(ready_[random_() % ready_.size()], ready_.back());
      Thread& thread = *ready_.back();
      ready_.pop_back();
      resume(thread);
      if (!error_) settle(thread);
    }
  }
  return error_;
}

void Launch::admit(unsigned rank) {
  auto block = std::make_unique<Block>();
  block->rank = rank;
  block->static_shared = fresh_shared_region(segment_);
  block->static_image.assign(block->static_shared.size, std::byte{0xFF});
  const std::size_t lines = shape_.shared_bytes / sizeof(SharedLine) + 1;
  block->dynamic_memory = std::make_unique<SharedLine[]>(lines);
  std::memset(block->dynamic_memory.get(), 0xFF, lines * sizeof(SharedLine));
  block->dynamic_shared = tracked_region("dynamic shared memory", block->dynamic_memory.get(),
                                         shape_.shared_bytes, true, false);
  block->threads = std::vector<Thread>(threads_per_block_);
  for (unsigned k = 0; k < threads_per_block_; ++k) {
    Thread& thread = block->threads[k];
    thread.block = block.get();
    thread.rank = k;
    thread.clocks[thread.lane()] = 1;
    ready_.push_back(&thread);
  }
  resident_.push_back(std::move(block));
}

void Launch::start() {
  active->entry_(active->call_);
  active->running_->state = Thread::kExited;
  // Its context ends here; uc_link goes back to the scheduler.
}

void Launch::bring_in(Block& block) {
  if (inside_ != nullptr) std::memcpy(inside_->static_image.data(), segment_.begin, segment_.size);
  std::memcpy(segment_.begin, block.static_image.data(), segment_.size);
  inside_ = &block;
  regions_.clear();
  for (Region& region : library_constants()) regions_.push_back(&region);
  regions_.push_back(&parameters_);
  for (Region& region : tensors_) regions_.push_back(&region);
  regions_.push_back(&block.dynamic_shared);
  regions_.push_back(&block.static_shared);
}

void Launch::resume(Thread& thread) {
  if (inside_ != thread.block) bring_in(*thread.block);
  if (!thread.stack) {
    if (spare_stacks_.empty()) spare_stacks_.push_back(std::make_unique<Stack>());
    thread.stack = std::move(spare_stacks_.back());
    spare_stacks_.pop_back();
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack->begin();
    thread.context.uc_stack.ss_size = Stack::kSize;
    thread.context.uc_link = &scheduler_;
    makecontext(&thread.context, &Launch::start, 0);
  }
  running_ = &thread;
  active = this;
  threadIdx = unravel(thread.rank, shape_.block);
  blockIdx = unravel(thread.block->rank, shape_.grid);
  blockDim = shape_.block;
  gridDim = shape_.grid;
  swapcontext(&scheduler_, &thread.context);
  active = nullptr;
  running_ = nullptr;
}

void Launch::wait(Thread::State state, Site site) {
  running_->state = state;
  running_->site = site;
  swapcontext(&running_->context, &scheduler_);
}

// A failed launch never goes on: its fibres are dropped where they stand.
void Launch::fail(std::string message) {
  error_ = std::move(message);
  if (running_ != nullptr) setcontext(&scheduler_);
  std::abort();
}

void Launch::check(std::uintptr_t at, std::size_t size, Access access, const void* code) {
  Thread& thread = *running_;
  if (checks_paused_ || thread.stack->contains(at)) return;
  pause_checks();
  const Observer observer{{thread.block->rank * threads_per_block_ + thread.rank, grid_epoch_,
                           thread.block->epoch, thread.clocks[thread.lane()], thread.fences, 0},
                          threads_per_block_,
                          thread.clocks,
                          &fences_};
  if (auto error = check_access(regions_, at, size, access, observer))
    fail(*error + " (block " + std::to_string(thread.block->rank) + " thread " +
         std::to_string(thread.rank) + ")" + place(code));
  checks_paused_ = false;
}

void Launch::fence() {
  const Block& block = *running_->block;
  fences_.of_thread[block.rank * threads_per_block_ + running_->rank] = ++running_->fences;
  fences_.epoch_of_block[block.rank] = block.epoch;
}

void Launch::advance(std::uint16_t& count) {
  if (count == kMostEpochs) error_ = "too many barriers in one launch for the executor's counters";
  ++count;
}

// What the stop of `thread` changes: whether it waits, and whether others waited for it.
void Launch::settle(Thread& thread) {
  Block& block = *thread.block;
  switch (thread.state) {
    case Thread::kReady:
      ready_.push_back(&thread);
      break;
    case Thread::kAtBlockBarrier:
      ++block.waiting;
      settle_block(block);
      break;
    case Thread::kAtGridBarrier:
      ++at_grid_barrier_;
      settle_grid();
      break;
    case Thread::kAtWarp:
      settle_warp(thread);
      break;
    case Thread::kExited:
      ++block.exited;
      spare_stacks_.push_back(std::move(thread.stack));
      const unsigned warp = thread.rank - thread.lane();
      for (unsigned k = warp; k < std::min(warp + kWarpSize, threads_per_block_); ++k)
        if (block.threads[k].state == Thread::kAtWarp) settle_warp(block.threads[k]);
      if (block.exited == threads_per_block_) {
        if (inside_ == &block) inside_ = nullptr;
        std::erase_if(resident_, [&](const auto& other) { return other.get() == &block; });
      }
      break;
  }
}

void Launch::settle_block(Block& block) {
  const Site& site = block.threads.front().site;
  if (block.waiting < threads_per_block_) return;
  for (const Thread& thread : block.threads)
    if (!same_site(thread.site, site)) return;  // reported once nothing else can run
  block.waiting = 0;
  block.predicates = 0;
  for (Thread& thread : block.threads) {
    block.predicates += thread.predicate ? 1 : 0;
    thread.state = Thread::kReady;
    ready_.push_back(&thread);
  }
  advance(block.epoch);
}

void Launch::settle_grid() {
  if (at_grid_barrier_ < fences_.of_thread.size()) return;
  const Site& site = resident_.front()->threads.front().site;
  for (const auto& block : resident_)
    for (const Thread& thread : block->threads)
      if (!same_site(thread.site, site)) return;
  at_grid_barrier_ = 0;
  for (const auto& block : resident_)
    for (Thread& thread : block->threads) {
      thread.state = Thread::kReady;
      ready_.push_back(&thread);
    }
  advance(grid_epoch_);
}

void Launch::settle_warp(Thread& thread) {
  Block& block = *thread.block;
  const unsigned warp = thread.rank - thread.lane();
  std::vector<Thread*> lanes;
  for (unsigned lane = 0; lane < kWarpSize && warp + lane < threads_per_block_; ++lane) {
    Thread& other = block.threads[warp + lane];
    if ((thread.mask >> lane & 1) == 0 || other.state == Thread::kExited) continue;
    if (other.state != Thread::kAtWarp || other.mask != thread.mask ||
        !same_site(other.site, thread.site))
      return;
    lanes.push_back(&other);
  }
  WarpValues values{};
  std::uint16_t clocks[kWarpSize] = {};
  for (const Thread* lane : lanes) {
    values.participants |= 1u << lane->lane();
    values.value[lane->lane()] = lane->value;
    for (unsigned k = 0; k < kWarpSize; ++k) clocks[k] = std::max(clocks[k], lane->clocks[k]);
  }
  for (Thread* lane : lanes) {
    lane->received = values;
    lane->received.lane = lane->lane();
    if (lane->orders_memory) {
      std::copy_n(clocks, kWarpSize, lane->clocks);
      advance(lane->clocks[lane->lane()]);
    }
    lane->state = Thread::kReady;
    ready_.push_back(lane);
  }
}

// Nothing can run and not everything has ended.
std::string Launch::describe_waiting() const {
  std::map<std::string, unsigned> counts;
  unsigned at_block_barrier = 0;
  for (const auto& block : resident_)
    for (const Thread& thread : block->threads) {
      at_block_barrier += thread.state == Thread::kAtBlockBarrier ? 1 : 0;
      const std::string place = describe(thread.site);
      ++counts[thread.state == Thread::kExited           ? "returned"
               : thread.state == Thread::kAtBlockBarrier ? "at the block's barrier, " + place
               : thread.state == Thread::kAtGridBarrier  ? "at the grid's barrier, " + place
                                                         : "at a warp's exchange, " + place];
    }
  std::string message = at_block_barrier > 0 ? "divergent barrier:" : "deadlock:";
  for (const auto& [what, count] : counts)
    message += " " + std::to_string(count) + " threads " + what + ";";
  message.pop_back();
  return message;
}

}  // namespace host_executor
