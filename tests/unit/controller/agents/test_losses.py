"""Targets and losses, by hand."""

import torch

from controller.agents import losses


def test_double_q_target_of_three_rows():
    reward = torch.tensor([1.0, 2.0, 3.0])
    discount = torch.tensor([0.5, 0.5, 0.0])  # the third row ended
    q_online = torch.tensor([[1.0, 5.0, 9.0], [4.0, 3.0, 2.0], [0.0, 1.0, 0.0]])
    q_target = torch.tensor([[10.0, 20.0, 30.0], [40.0, 50.0, 60.0], [70.0, 80.0, 90.0]])
    feasible = torch.tensor([[True, True, False], [True, True, True], [True, True, True]])

    target = losses.double_q_target(reward, discount, q_online, q_target, feasible)

    # Row 1: action 2 is online's best but infeasible, so action 1: 1 + 0.5 * 20. Row 2: online
    # picks action 0, though target rates action 2 higher: 2 + 0.5 * 40. Row 3: the reward alone.
    assert target.tolist() == [11.0, 22.0, 3.0]


def test_an_ended_row_without_a_feasible_action_still_has_its_reward_as_target():
    nothing = torch.zeros((1, 2), dtype=torch.bool)

    target = losses.double_q_target(
        torch.tensor([2.0]), torch.tensor([0.0]), torch.ones(1, 2), torch.ones(1, 2), nothing
    )

    assert target.tolist() == [2.0]


def test_active_mean_ignores_inactive_users_and_is_0_where_nobody_is():
    values = torch.tensor([[1.0, 3.0, 100.0], [7.0, 8.0, 9.0]])
    weights = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])

    assert losses.active_mean(values, weights).tolist() == [2.0, 0.0]


def test_the_mean_of_decomposed_targets_is_the_target_of_the_mean():
    reward = torch.tensor([[1.0, 3.0]])
    next_q = torch.tensor([[4.0, 100.0]])
    next_weights = torch.tensor([[1.0, 0.0]])

    target = losses.decomposed_target(reward, torch.tensor([0.5]), next_q, next_weights)

    assert target.tolist() == [[3.0, 5.0]]  # 1 + 0.5 * 4 and 3 + 0.5 * 4
    assert target.mean().item() == 0.5 * (1 + 3) + 0.5 * 4


def test_td_loss_weighs_every_slot_alike_however_many_users_it_has():
    q = torch.tensor([[1.0, 2.0], [3.0, 50.0]])
    target = torch.tensor([[0.0, 4.0], [0.0, 0.0]])
    weights = torch.tensor([[0.5, 0.5], [1.0, 0.0]])

    assert losses.td_loss(q, target, weights).item() == ((1 + 4) / 2 + 9) / 2


def test_policy_loss_weighs_every_slot_alike_however_many_users_it_has():
    q = torch.tensor([[1.0, 3.0], [8.0, 50.0]])
    weights = torch.tensor([[0.5, 0.5], [1.0, 0.0]])

    assert losses.policy_loss(q, weights).item() == -(2.0 + 8.0) / 2
