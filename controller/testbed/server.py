"""The controller's gRPC server: health, reflection, a clear error for a taken port."""

from contextlib import AbstractAsyncContextManager

from controller.testbed.servicer import ControllerServicer
from protos import controller_pb2
from protos.controller_pb2_grpc import add_ControllerServiceServicer_to_server
from protos.serving import Listening, listening

_SERVICE = controller_pb2.DESCRIPTOR.services_by_name["ControllerService"].full_name


def serving(address: str, servicer: ControllerServicer) -> AbstractAsyncContextManager[Listening]:
    """Serve the controller at HOST:PORT while the block runs.

    Raises:
        ConfigError: the address cannot be bound; it is named.
    """
    return listening(
        address,
        _SERVICE,
        lambda server: add_ControllerServiceServicer_to_server(servicer, server),
    )
