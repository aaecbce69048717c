#include "storage/io/engine.h"

#include "storage/base/check.h"

namespace penstock {

Result<std::uint64_t> run_one(IoEngine& engine, const IoRequest& request) {
    PENSTOCK_CHECK(engine.in_flight() == 0);
    PENSTOCK_CHECK(engine.queue(request));
    IoCompletion done[1];
    while (engine.reap(done) == 0) {
        engine.wait(100'000'000);
    }
    if (done[0].result < 0) {
        return fail(Errc::io_failed, static_cast<int>(-done[0].result));
    }
    return static_cast<std::uint64_t>(done[0].result);
}

}  // namespace penstock
