// Rules by which a device delivers datagrams to the lane they are for: UDP destination port to
// receive queue, over IPv4 and over IPv6.
//
// Runs on: control threads, while the device runs.
// Allocates: when made.
// Guarantees: either every rule is made or none is left; all are gone when this object is.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dataplane/port/port.h"
#include "storage/base/result.h"

struct rte_flow;
struct rte_flow_action;
struct rte_flow_attr;
struct rte_flow_error;
struct rte_flow_item;

namespace penstock {

// What rte_flow offers for one device, under the same names; tests stand in for it.
class FlowApi {
public:
    virtual ~FlowApi() = default;
    // 0, or a negative number.
    [[nodiscard]] virtual int validate(const rte_flow_attr& attributes,
                                       const rte_flow_item* pattern, const rte_flow_action* actions,
                                       rte_flow_error& error) = 0;
    // Null when refused.
    [[nodiscard]] virtual rte_flow* create(const rte_flow_attr& attributes,
                                           const rte_flow_item* pattern,
                                           const rte_flow_action* actions,
                                           rte_flow_error& error) = 0;
    [[nodiscard]] virtual int destroy(rte_flow* rule, rte_flow_error& error) = 0;
    // Every rule of the device.
    [[nodiscard]] virtual int flush(rte_flow_error& error) = 0;
};

[[nodiscard]] std::unique_ptr<FlowApi> flow_api_of(std::uint16_t port_id);

struct FlowSteeringOptions {
    // Lanes from here on have no queue: their ports get no rule.
    unsigned queue_count = 1;
    // Some drivers keep one address family for each priority (net_tap), most know one priority.
    bool priority_per_family = false;
};

class FlowSteering {
public:
    // First all rules are validated, then made. Errc::unsupported, with what was refused and why in
    // `why`, when the device does not take them all.
    [[nodiscard]] static Result<std::unique_ptr<FlowSteering>> open(
        std::unique_ptr<FlowApi> api, std::span<const LaneUdpPort> ports,
        const FlowSteeringOptions& options, std::string& why);
    // The device must still run.
    ~FlowSteering();
    FlowSteering(const FlowSteering&) = delete;
    FlowSteering& operator=(const FlowSteering&) = delete;

    [[nodiscard]] std::size_t rule_count() const noexcept { return rules_.size(); }

private:
    explicit FlowSteering(std::unique_ptr<FlowApi> api) : api_(std::move(api)) {}

    std::unique_ptr<FlowApi> api_;
    std::vector<rte_flow*> rules_;
};

}  // namespace penstock
