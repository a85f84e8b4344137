#include "parallel.h"

#include <sched.h>

#include <cstdlib>
#include <exception>
#include <new>

namespace lepton {

namespace {

constexpr int kSpins = 20000;  // some hundred microseconds

OpenMP openmp{};

struct Team {
    void (*body)(void*, int, int);
    void* data;
};

void enter(void* team) {
    const Team& t = *static_cast<Team*>(team);
    t.body(t.data, openmp.thread(), openmp.team());
}

struct Buffer {
    void* memory = nullptr;
    size_t bytes = 0;

    ~Buffer() { std::free(memory); }

    void* at_least(size_t wanted) {
        if (wanted > bytes) {
            std::free(memory);
            bytes = (wanted + wanted / 2 + 4095) / 4096 * 4096;  // grows in steps, not at every longer sequence
            memory = std::aligned_alloc(4096, bytes);
            if (!memory) {
                bytes = 0;
                throw std::bad_alloc();
            }
        }
        return memory;
    }
};

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Waits until done() holds: awake while that is soon, then giving way, since another process may need the core.
template <class Done>
void wait_until(Done&& done) {
    for (int spins = 0; !done(); ++spins) {
        if (spins < kSpins) {
            pause();
        } else {
            sched_yield();
        }
    }
}

// The threads of with_team. The first publishes one piece of work at a time; a piece has a number, and every thread
// counts itself out when it is through with it.
class StandingTeam {
  public:
    // The first thread sets it, before it runs anything.
    void set_size(int size) { size_ = size; }
    int size() const { return size_; }

    // In the first thread.
    void run(int threads, void (*body)(void*, int, int), void* data) {
        body_ = body;
        data_ = data;
        threads_ = threads;
        left_.store(size_ - 1, std::memory_order_relaxed);
        piece_.fetch_add(1, std::memory_order_release);
        body(data, 0, threads);
        wait_until([&] { return left_.load(std::memory_order_acquire) == 0; });
    }

    void dismiss() {
        body_ = nullptr;
        piece_.fetch_add(1, std::memory_order_release);
    }

    // In the others, until dismissed.
    void serve(int thread) {
        for (uint32_t seen = 0;;) {
            wait_until([&] { return piece_.load(std::memory_order_acquire) != seen; });
            ++seen;
            if (!body_) return;
            if (thread < threads_) body_(data_, thread, threads_);
            left_.fetch_sub(1, std::memory_order_release);
        }
    }

  private:
    int size_ = 1;
    void (*body_)(void*, int, int) = nullptr;
    void* data_ = nullptr;
    int threads_ = 0;
    // Each on a cache line of its own: threads spin on one and write the other.
    alignas(64) std::atomic<uint32_t> piece_{0};
    alignas(64) std::atomic<int> left_{0};
};

thread_local StandingTeam* standing = nullptr;  // in the first thread, while it has one

// Outlives the region: threads look at the team until the last of them has left.
struct Region {
    void (*body)(void*);
    void* data;
    StandingTeam team;
    std::exception_ptr error;
};

void enter_region(void* region) {
    Region& r = *static_cast<Region*>(region);
    const int thread = openmp.thread();
    if (thread != 0) {
        r.team.serve(thread);
        return;
    }
    r.team.set_size(openmp.team());
    standing = &r.team;
    try {
        r.body(r.data);
    } catch (...) {
        r.error = std::current_exception();
    }
    standing = nullptr;
    r.team.dismiss();
}

}  // namespace

void set_openmp(const OpenMP& entry_points) { openmp = entry_points; }

void run_team(int threads, void (*body)(void*, int, int), void* data) {
    if (standing) threads = threads < standing->size() ? threads : standing->size();
    if (threads <= 1 || !openmp.parallel) {
        body(data, 0, 1);
        return;
    }
    if (standing) {
        standing->run(threads, body, data);
        return;
    }
    Team team{body, data};
    openmp.parallel(enter, &team, static_cast<unsigned>(threads), 0);
}

void with_team(int threads, void (*body)(void*), void* data) {
    if (threads <= 1 || !openmp.parallel || standing) {
        body(data);
        return;
    }
    Region region{body, data, {}, {}};
    openmp.parallel(enter_region, &region, static_cast<unsigned>(threads), 0);
    if (region.error) std::rethrow_exception(region.error);
}

void* scratch(Scratch purpose, size_t bytes) {
    thread_local Buffer buffers[2];
    return buffers[purpose == Scratch::kShared].at_least(bytes);
}

}  // namespace lepton
