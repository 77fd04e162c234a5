// The groups of <cooperative_groups.h> that span a block and a grid.
#pragma once

#include "../executor.h"

namespace cooperative_groups {

struct thread_block {
  void sync(host_executor::Site site = host_executor::Site::current()) const {
    host_executor::block_barrier(false, site);
  }
};

struct grid_group {
  void sync(host_executor::Site site = host_executor::Site::current()) const {
    host_executor::grid_barrier(site);
  }
};

inline thread_block this_thread_block() { return {}; }
inline grid_group this_grid() { return {}; }

}  // namespace cooperative_groups
