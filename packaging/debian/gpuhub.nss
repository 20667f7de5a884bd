# Local accounts come first, always. `compat` is what old images have instead of `files`.
passwd after=files,compat gpuhub
group after=files,compat gpuhub
