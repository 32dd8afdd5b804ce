import grpc

from protos import errors


def test_each_error_has_a_status_code_of_its_own():
    classes = errors.EdgeError.__subclasses__()
    assert len(classes) == 12
    assert len({cls.code for cls in classes}) == len(classes)
    assert grpc.StatusCode.OK not in errors.BY_CODE
    assert all(errors.BY_CODE[cls.code] is cls for cls in classes)


def test_the_tree_in_the_docstring_is_the_tree():
    for cls in errors.EdgeError.__subclasses__():
        line = next(line for line in errors.__doc__.splitlines() if f" {cls.__name__} " in line)
        assert cls.code.name in line
