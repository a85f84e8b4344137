#include "isa.h"

#include <atomic>
#include <cstring>

#if defined(LEPTON_X86)
#include <cpuid.h>
#endif

namespace lepton {

namespace baseline {
extern const KernelTable table;
}
#if defined(LEPTON_X86)
namespace avx2 {
extern const KernelTable table;
}
namespace avx512 {
extern const KernelTable table;
}
namespace avx512bf16 {
extern const KernelTable table;
}
#endif

namespace {

struct Choice {
    const KernelTable* table;
    bool usable;
};

// From the least to the best.
const Choice* choices(int* count) {
#if defined(LEPTON_X86)
    // F16C came before AVX2; clang cannot ask for it.
    static const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    static const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                                   __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    static const bool has_bf16 = has_avx512 && __builtin_cpu_supports("avx512bf16") &&
                                 __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
    static const Choice all[] = {
        {&baseline::table, true},
        {&avx2::table, has_avx2},
        {&avx512::table, has_avx512},
        {&avx512bf16::table, has_bf16},
    };
#else
    static const Choice all[] = {{&baseline::table, true}};
#endif
    *count = sizeof(all) / sizeof(all[0]);
    return all;
}

const KernelTable* best() {
    int count;
    const Choice* all = choices(&count);
    const KernelTable* found = nullptr;
    for (int i = 0; i < count; ++i) {
        if (all[i].usable) found = all[i].table;
    }
    return found;
}

std::atomic<const KernelTable*>& current() {
    static std::atomic<const KernelTable*> table{best()};
    return table;
}

}  // namespace

const KernelTable& kernels() { return *current().load(std::memory_order_relaxed); }

bool has_matrix_units() {
#if defined(LEPTON_X86)
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1);  // AMX-BF16
#else
    return false;
#endif
}

bool select_kernels(const char* name) {
    int count;
    const Choice* all = choices(&count);
    for (int i = 0; i < count; ++i) {
        if (all[i].usable && std::strcmp(all[i].table->name, name) == 0) {
            current().store(all[i].table, std::memory_order_relaxed);
            return true;
        }
    }
    return false;
}

}  // namespace lepton
