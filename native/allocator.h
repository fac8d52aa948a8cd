#pragma once

namespace tinyllava {

/// Whether memory of tensors that are freed stays with the process for what comes next, or goes back to the system.
void keep_freed_memory(bool whether);

}  // namespace tinyllava
