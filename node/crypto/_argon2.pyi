from typing import final

def variants() -> list[str]: ...

@final
class Kernel:
    def __new__(cls, variant: str) -> Kernel: ...
    def argon2id(
        self,
        password: bytes,
        salt: bytes,
        iterations: int,
        mem_kib: int,
        length: int,
        /,
    ) -> bytes: ...
    def close(self) -> None: ...
    def arenas(self) -> list[tuple[int, int]]: ...
