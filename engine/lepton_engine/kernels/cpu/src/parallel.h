// Work on torch's own thread pool.
//
// torch's pool is an OpenMP runtime that comes with it. A second runtime would keep threads of its own, spinning
// against the first one's, so this library links none: it is handed the entry points of the one that torch loaded.
// Without them (another kind of pool) everything runs in the calling thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace lepton {

struct OpenMP {
    void (*parallel)(void (*body)(void*), void* data, unsigned threads, unsigned flags);  // GOMP_parallel
    int (*thread)();                                                                      // omp_get_thread_num
    int (*team)();                                                                        // omp_get_num_threads
};

void set_openmp(const OpenMP& entry_points);

// Runs body(data, thread, team) in up to `threads` threads; the team may be smaller.
void run_team(int threads, void (*body)(void* data, int thread, int team), void* data);

template <class Body>
void parallel(int threads, Body&& body) {
    run_team(
        threads, [](void* data, int thread, int team) { (*static_cast<Body*>(data))(thread, team); }, &body);
}

// Runs body() in the calling thread with `threads - 1` others standing by: what it runs by `parallel` starts within a
// fraction of a microsecond, where a region of OpenMP's own takes several. For work of many short pieces.
void with_team(int threads, void (*body)(void* data), void* data);

template <class Body>
void with_team(int threads, Body&& body) {
    with_team(threads, [](void* data) { (*static_cast<Body*>(data))(); }, &body);
}

// Shares [0, count) among the threads, in contiguous parts; fewer threads where a part would be less than `grain`.
template <class Body>
void parallel_ranges(int threads, int64_t count, int64_t grain, Body&& body) {
    if (count <= 0) return;
    const int64_t most = grain > 0 ? (count + grain - 1) / grain : count;
    parallel(most < threads ? static_cast<int>(most) : threads, [&](int thread, int team) {
        const int64_t begin = count * thread / team, end = count * (thread + 1) / team;
        if (begin < end) body(begin, end);
    });
}

// Memory that lasts as long as the calling thread, at least `bytes`, aligned to cache lines. Two purposes, so that
// the thread which starts a call can hold shared memory and take part in the work with its own.
enum class Scratch { kOwn, kShared };
void* scratch(Scratch purpose, size_t bytes);

}  // namespace lepton
