#include "dataplane/port/flow_steering.h"

#include <array>

#include <rte_flow.h>

namespace penstock {
namespace {

class DeviceFlowApi final : public FlowApi {
public:
    explicit DeviceFlowApi(std::uint16_t port_id) : port_id_(port_id) {}

    int validate(const rte_flow_attr& attributes, const rte_flow_item* pattern,
                 const rte_flow_action* actions, rte_flow_error& error) override {
        return rte_flow_validate(port_id_, &attributes, pattern, actions, &error);
    }
    rte_flow* create(const rte_flow_attr& attributes, const rte_flow_item* pattern,
                     const rte_flow_action* actions, rte_flow_error& error) override {
        return rte_flow_create(port_id_, &attributes, pattern, actions, &error);
    }
    int destroy(rte_flow* rule, rte_flow_error& error) override {
        return rte_flow_destroy(port_id_, rule, &error);
    }
    int flush(rte_flow_error& error) override { return rte_flow_flush(port_id_, &error); }

private:
    std::uint16_t port_id_;
};

// One rule as rte_flow takes it: it points into itself, so it stays where it is made.
class Rule {
public:
    Rule(const LaneUdpPort& steered, IpFamily family, std::uint32_t priority) {
        attributes_.priority = priority;
        attributes_.ingress = 1;
        wanted_.hdr.dst_port = rte_cpu_to_be_16(steered.port);
        mask_.hdr.dst_port = 0xFFFF;
        queue_.index = static_cast<std::uint16_t>(steered.lane);
        pattern_[0].type = RTE_FLOW_ITEM_TYPE_ETH;
        pattern_[1].type =
            family == IpFamily::v4 ? RTE_FLOW_ITEM_TYPE_IPV4 : RTE_FLOW_ITEM_TYPE_IPV6;
        pattern_[2].type = RTE_FLOW_ITEM_TYPE_UDP;
        pattern_[2].spec = &wanted_;
        pattern_[2].mask = &mask_;
        pattern_[3].type = RTE_FLOW_ITEM_TYPE_END;
        actions_[0].type = RTE_FLOW_ACTION_TYPE_QUEUE;
        actions_[0].conf = &queue_;
        actions_[1].type = RTE_FLOW_ACTION_TYPE_END;
        name_ = "UDP port " + std::to_string(steered.port) + " over IPv" +
                (family == IpFamily::v4 ? "4" : "6") + " to queue " + std::to_string(steered.lane);
    }
    Rule(const Rule&) = delete;
    Rule& operator=(const Rule&) = delete;

    [[nodiscard]] int validate(FlowApi& api, rte_flow_error& error) const {
        return api.validate(attributes_, pattern_.data(), actions_.data(), error);
    }
    [[nodiscard]] rte_flow* create(FlowApi& api, rte_flow_error& error) const {
        return api.create(attributes_, pattern_.data(), actions_.data(), error);
    }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }

private:
    rte_flow_attr attributes_{};
    rte_flow_item_udp wanted_{};
    rte_flow_item_udp mask_{};
    rte_flow_action_queue queue_{};
    std::array<rte_flow_item, 4> pattern_{};
    std::array<rte_flow_action, 2> actions_{};
    std::string name_;
};

std::string said(const rte_flow_error& error) {
    return error.message == nullptr ? "no reason given" : error.message;
}

}  // namespace

std::unique_ptr<FlowApi> flow_api_of(std::uint16_t port_id) {
    return std::make_unique<DeviceFlowApi>(port_id);
}

Result<std::unique_ptr<FlowSteering>> FlowSteering::open(std::unique_ptr<FlowApi> api,
                                                         std::span<const LaneUdpPort> ports,
                                                         const FlowSteeringOptions& options,
                                                         std::string& why) {
    std::vector<std::unique_ptr<Rule>> wanted;
    for (const LaneUdpPort& steered : ports) {
        if (steered.lane < options.queue_count) {
            wanted.push_back(std::make_unique<Rule>(steered, IpFamily::v4, 0));
            wanted.push_back(
                std::make_unique<Rule>(steered, IpFamily::v6, options.priority_per_family ? 1 : 0));
        }
    }
    for (const auto& rule : wanted) {
        rte_flow_error error{};
        if (rule->validate(*api, error) != 0) {
            why = rule->name() + ": " + said(error);
            return fail(Errc::unsupported);
        }
    }
    // Destroys those made so far when one is refused.
    std::unique_ptr<FlowSteering> steering(new FlowSteering(std::move(api)));
    for (const auto& rule : wanted) {
        rte_flow_error error{};
        rte_flow* const made = rule->create(*steering->api_, error);
        if (made == nullptr) {
            why = rule->name() + ": " + said(error);
            return fail(Errc::unsupported);
        }
        steering->rules_.push_back(made);
    }
    return steering;
}

FlowSteering::~FlowSteering() {
    bool left = false;
    for (; !rules_.empty(); rules_.pop_back()) {
        rte_flow_error error{};
        left |= api_->destroy(rules_.back(), error) != 0;
    }
    if (left) {
        // The device is ours alone, and so are all its rules.
        rte_flow_error error{};
        static_cast<void>(api_->flush(error));
    }
}

}  // namespace penstock
