#pragma once

namespace tinyllava {

/// Whether memory of tensors that are freed stays with the process for what comes next, or goes back to the system.
void keep_freed_memory(bool whether);

/// Gives what was freed back to the system, where it is kept or the C library can.
void trim_freed_memory();

}  // namespace tinyllava
